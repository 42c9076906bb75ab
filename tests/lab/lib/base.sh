#!/usr/bin/env bash
# Builds the root file system that every lab host shares: a small Debian with systemd, sshd and multi-user Nix.
# usage: base.sh DIRECTORY   (DIRECTORY must not exist; the caller renames it into place when all went well)
#
# Whatever changes here changes the hash of this file, and with it the name of the cache: old roots are not reused.
set -euo pipefail

root=$1
suite=${NIXGATE_LAB_SUITE:-trixie}
packages=systemd,systemd-sysv,dbus,openssh-server,git,busybox-static,iproute2,iputils-ping,ca-certificates,sqlite3,curl
packages+=,sudo,procps,nftables,jq,gawk,systemd-boot-tools,less,hostname,netcat-openbsd
# for kinds of hosts: login shells, and what people have instead of sudo
packages+=,zsh,fish,tcsh,sudo-rs,opendoas

debootstrap --variant=minbase --include="$packages" "$suite" "$root"

inside() {
    unshare --mount --pid --fork --kill-child bash -euc '
        mount -t proc proc "$1/proc"
        root=$1; shift
        exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
    ' inside "$root" "$@"
}

# debootstrap cannot resolve the virtual packages that Nix depends on, so apt does it; no service may start here.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
inside apt-get install -y --no-install-recommends nix-bin nix-setup-systemd
rm "$root/usr/sbin/policy-rc.d"
inside apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*

# As on NixOS, /etc/systemd/system belongs to the toplevel alone; what Debian enables or masks is said in /usr/lib.
rm -rf "${root:?}/etc/systemd/system"
mkdir -p "$root/etc/systemd/system"
units=$root/usr/lib/systemd/system
mkdir -p "$units/sockets.target.wants" "$units/multi-user.target.wants"
ln -sfn ../nix-daemon.socket "$units/sockets.target.wants/nix-daemon.socket"
masked=(console-getty.service getty.target apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer)
# the kernel is not a host's to change, nor to look into
masked+=(systemd-modules-load.service modprobe@.service systemd-sysctl.service dev-hugepages.mount)
masked+=(sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount systemd-remount-fs.service)
for unit in "${masked[@]}"; do ln -sfn /dev/null "$units/$unit"; done
ln -sfn multi-user.target "$units/default.target"
# No fstab, console, TPM, rc.local or init script here for them to find, and each reload of systemd would ask all of them.
rm -f "$root"/usr/lib/systemd/{system,user}-generators/*

# Names are answered from /etc/hosts and nowhere else: a lookup must fail at once, not after a resolver's timeout.
cat >"$root/etc/nsswitch.conf" <<'CONF'
passwd: files
group: files
shadow: files
hosts: files
services: files
protocols: files
CONF
: >"$root/etc/resolv.conf"

cat >"$root/etc/nix/nix.conf" <<'CONF'
sandbox = false
experimental-features = nix-command flakes
substituters =
flake-registry =
fsync-metadata = false
connect-timeout = 3
CONF

cat >"$root/etc/ssh/sshd_config" <<'CONF'
AddressFamily inet
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
UseDNS no
PrintMotd no
MaxStartups 200
PerSourcePenalties no
Subsystem sftp internal-sftp
CONF
rm -f "$root"/etc/ssh/ssh_host_*
# The message of the day and the mail check cost 20 ms for every login and print what no NixOS host prints.
sed -i -E '/pam_motd|pam_mail/d' "$root/etc/pam.d/sshd" "$root/etc/pam.d/login"

mkdir -p "$root/var/log/journal"
rm -f "$root/etc/machine-id" "$root/var/lib/dbus/machine-id" "$root/etc/hostname"
: >"$root/etc/machine-id"
# "Nothing was updated since the last boot": without these two systemd rebuilds its caches at every first boot.
touch "$root/etc/.updated" "$root/var/.updated"
inside journalctl --update-catalog >/dev/null 2>&1 || true
