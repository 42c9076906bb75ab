#!/usr/bin/env bash
# The first process of a lab host: runs inside `unshare`, makes the host's file systems and becomes its init.
# usage: boot.sh HOST STATE_DIR DATA_DIR LOWERDIRS
set -euo pipefail

host=$1 state=$2 data=$3 lower=$4

# /proc is still the machine's: this is our process id as the machine sees it, with the start time against reuse.
stat=$(</proc/self/stat)
read -r -a field <<<"${stat##*) }"
stat_pid=${stat%% *}
echo "$stat_pid" >"$state/first.new"
mv "$state/first.new" "$state/first"

# Whoever started us answers when our end of the cable is in this network namespace.
read -r _ <"$state/plugged"

hostname "$host"
root=$data/root
# "volatile": the hosts are thrown away, nothing needs syncing. A power cut here is SIGKILL, the page cache survives.
rm -rf "$data/work/work/incompat"
mount -t overlay -o "lowerdir=$lower,upperdir=$data/upper,workdir=$data/work,redirect_dir=on,volatile" overlay "$root"

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
# The kernel is shared with the machine: its knobs are not a host's to turn, its own network's are.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,rw "$root/proc/sys/net"
[[ ! -e $root/proc/sysrq-trigger ]] || mount --bind /dev/null "$root/proc/sysrq-trigger"
if [[ ${NIXGATE_LAB_BOOT_ID:-own} == own ]]; then
    # A real host has another boot id after each boot; containers share the kernel's unless told otherwise.
    cat /proc/sys/kernel/random/uuid >"$state/boot-id"
    mount --bind "$state/boot-id" "$root/proc/sys/kernel/random/boot_id"
fi
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"

mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmp "$root/tmp"

# Nobody may enter before the root is the host's own, and then this file is out of reach: so it is opened here.
exec {announce}>"$state/init"
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
printf '%s %s\n' "$stat_pid" "${field[19]}" >&"$announce"
exec {announce}>&-

# What a boot loader does: the default entry says which init runs, with no loader the system profile does.
init=/sbin/init
if [[ -e /etc/NIXOS ]] || grep -qs '^ID=nixos' /etc/os-release; then
    conf=/boot/extlinux/extlinux.conf
    if [[ -e $conf ]]; then
        init=$(gawk '
            $1 == "DEFAULT" { default_label = $2 }
            $1 == "LABEL" { label = $2 }
            $1 == "APPEND" && label == default_label {
                for (i = 2; i <= NF; i++) if (sub(/^init=/, "", $i)) { print $i; exit }
            }' "$conf")
    else
        init=$(readlink -f /nix/var/nix/profiles/system)/init
    fi
    if [[ ! -x $init ]]; then
        echo "boot: the boot loader's default entry names init='$init', which is not there: this host does not boot" >&2
        exit 1
    fi
fi
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=nspawn "$init" </dev/null
