#!/usr/bin/env bash
# Makes what each host has on top of the base: keys, users, repositories, and closure A as profile generation 1.
# usage: golden.sh BASE DIRECTORY   (DIRECTORY must not exist; the caller renames it into place when all went well)
#
# Nothing boots here: every step is a chroot on an overlay, without a network, and the overlay's upper directory is
# the product. DIRECTORY holds: keys/, role/<role>/ (users and settings) and host/<host>/ (what is one host's own).
set -euo pipefail

base=$1 golden=$2
here=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
# shellcheck source=hosts.sh
. "$here/lib/hosts.sh"

mkdir -p "$golden"/{keys,role,host,work,closure}
# "today" in the repository: the same commits come out every time
export GIT_AUTHOR_DATE="2026-11-01T12:00:00Z" GIT_COMMITTER_DATE="2026-11-01T12:00:00Z"

# in_root LOWERDIRS UPPER [PROGRAM ARGS…]: runs a program, or the script on stdin, in base + LOWERDIRS + UPPER.
# $golden is /golden in there. With no program, sh reads the script.
in_root() {
    local lower=$1 upper=$2
    shift 2
    [[ $# -gt 0 ]] || set -- sh -eu
    mkdir -p "$upper" "$golden/work/dir" "$golden/work/root"
    unshare --mount --pid --net --fork --kill-child bash -euc '
        lower=$1 upper=$2 golden=$3 root=$3/work/root
        shift 3
        mount -t overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$golden/work/dir,redirect_dir=on" overlay "$root"
        mount -t proc proc "$root/proc"
        mount -t tmpfs dev "$root/dev"
        for node in null zero full random urandom; do : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
        ln -s /proc/self/fd "$root/dev/fd"
        mkdir "$root/dev/pts"
        mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
        ln -s pts/ptmx "$root/dev/ptmx"
        mount -t tmpfs run "$root/run"
        mount -t tmpfs -o mode=1777 tmp "$root/tmp"
        mkdir "$root/run/golden"
        mount --bind "$golden" "$root/run/golden"
        exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
            GIT_AUTHOR_DATE="$GIT_AUTHOR_DATE" GIT_COMMITTER_DATE="$GIT_COMMITTER_DATE" "$@"
    ' in_root "$lower" "$upper" "$golden" "$@"
    # The work directory belongs to one upper directory only.
    rm -rf "$golden/work/dir"
}

say() { printf 'lab: %s\n' "$*" >&2; }

# -- keys: every host's, and those of the people
keys=$golden/keys
all=(desk forge git "${lab_targets[@]}")
for name in "${all[@]}"; do ssh-keygen -q -t ed25519 -N '' -C "root@$name" -f "$keys/host-$name"; done
for name in op op2 build stranger; do ssh-keygen -q -t ed25519 -N '' -C "$name" -f "$keys/$name"; done
{
    echo "127.0.0.1 localhost"
    for name in "${all[@]}"; do echo "$(host_address "$name") $name"; done
} >"$golden/hosts"
for name in "${all[@]}"; do
    read -r type key _ <"$keys/host-$name.pub"
    echo "$name,$(host_address "$name") $type $key"
done >"$keys/known_hosts"
cat "$keys/op.pub" "$keys/op2.pub" >"$keys/authorized-people"
cat "$keys/op.pub" "$keys/op2.pub" "$keys/build.pub" >"$keys/authorized-deployers"

# Shell functions that all role scripts use.
prelude='
person() { # NAME GROUPS: a user with a home, who may be locked out of passwords but not of ssh
    useradd -m -s /bin/bash -G "$2" "$1"
    usermod -p "*" "$1"
    install -d -m 700 -o "$1" -g "$1" "/home/$1/.ssh"
}
authorize() { # NAME FILE
    install -m 600 -o "$1" -g "$1" "/run/golden/keys/$2" "$(getent passwd "$1" | cut -d: -f6)/.ssh/authorized_keys"
}
holds_key() { # NAME: the private key of that name, and everybody'"'"'s host keys
    install -m 600 -o "$1" -g "$1" "/run/golden/keys/$1" "/home/$1/.ssh/id_ed25519"
    install -m 644 -o "$1" -g "$1" "/run/golden/keys/$1.pub" "/home/$1/.ssh/id_ed25519.pub"
    install -m 600 -o "$1" -g "$1" /run/golden/keys/known_hosts "/home/$1/.ssh/known_hosts"
}
root_ssh() {
    install -d -m 700 /root/.ssh
    install -m 600 /run/golden/keys/authorized-people /root/.ssh/authorized_keys
}
cp /run/golden/hosts /etc/hosts
'

say "golden: the roles' users and settings"
in_root "$base" "$golden/role/target" <<SCRIPT
$prelude
groupadd wheel
person jarvis nix-users
person pat nix-users,wheel
person nosudo nix-users
person guest nix-users
echo pat:pat | chpasswd
for user in jarvis pat nosudo guest; do authorize \$user authorized-deployers; done
root_ssh
echo "trusted-users = root jarvis pat" >>/etc/nix/nix.conf
echo "max-jobs = 2" >>/etc/nix/nix.conf
rm -f /etc/sudoers /etc/ssh/sshd_config
touch /etc/NIXOS
SCRIPT

in_root "$base" "$golden/role/forge" <<SCRIPT
$prelude
person build nix-users
authorize build authorized-people
holds_key build
printf 'Host cortex orion t*\n  User jarvis\n' >/home/build/.ssh/config
chown build:build /home/build/.ssh/config
root_ssh
echo "trusted-users = root build" >>/etc/nix/nix.conf
echo "max-jobs = 2" >>/etc/nix/nix.conf
SCRIPT

in_root "$base" "$golden/role/git" <<SCRIPT
$prelude
useradd -m -s /usr/bin/git-shell git
usermod -p "*" git
install -d -m 700 -o git -g git /home/git/.ssh
authorize git authorized-people
root_ssh
SCRIPT

# The people at desk: two, so that they can race.
in_root "$base" "$golden/role/desk" <<SCRIPT
$prelude
groupadd wheel
for user in op op2; do
    person \$user nix-users
    holds_key \$user
    authorize \$user authorized-people
    cat >/home/\$user/.ssh/config <<'CONF'
Host cortex orion t*
  User jarvis
Host forge
  User build
Host git
  User git
CONF
    cat >/home/\$user/.gitconfig <<CONF
[user]
	name = The Operator (\$user)
	email = \$user@desk.example
[init]
	defaultBranch = main
[advice]
	detachedHead = false
CONF
    chown \$user:\$user /home/\$user/.ssh/config /home/\$user/.gitconfig
done
install -m 600 -o op -g op /run/golden/keys/stranger /home/op/.ssh/stranger
root_ssh
# a constrained host: it evaluates, and builds nothing
echo "trusted-users = root op op2" >>/etc/nix/nix.conf
echo "max-jobs = 0" >>/etc/nix/nix.conf
rm -f /etc/sudoers /etc/ssh/sshd_config
touch /etc/NIXOS
SCRIPT

# forge and git are plain Debian: their two units are not a toplevel's.
for name in forge git; do
    units=$golden/role/$name/etc/systemd/system
    mkdir -p "$units/multi-user.target.wants"
    cat >"$units/lab-network.service" <<UNIT
[Unit]
Description=The address of eth0
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip link set eth0 up
ExecStart=/usr/sbin/ip addr replace $(host_address "$name")/24 dev eth0
UNIT
    cat >"$units/sshd.service" <<'UNIT'
[Unit]
Description=SSH Daemon
After=network.target
[Service]
Type=notify
ExecStart=/usr/sbin/sshd -D
KillMode=process
Restart=always
RuntimeDirectory=sshd
RuntimeDirectoryPreserve=yes
UNIT
    ln -s ../lab-network.service ../sshd.service "$units/multi-user.target.wants/"
done

say "golden: the repositories"
mkdir -p "$golden/template"
cp -r "$here/fixture/flake" "$golden/template/infra"
cp -r "$here/fixture/fixlib" "$golden/template/fixlib"
cp -r "$here/fixture/variants" "$golden/template/variants"
# git keeps no empty folder
mkdir -p "$golden/template/infra/hosts"
for name in desk "${lab_targets[@]}"; do cp "$here/fixture/variants/A.nix" "$golden/template/infra/hosts/$name.nix"; done
in_root "$golden/role/desk:$base" "$golden/host/desk" <<'SCRIPT'
mkdir -p /srv/inputs
cp -r /run/golden/template/fixlib /srv/inputs/fixlib
cp -r /run/golden/template/infra /home/op/infra
chown -R op:op /srv/inputs/fixlib /home/op/infra
git config --system safe.directory /srv/inputs/fixlib
op() { setpriv --reuid op --regid op --init-groups env HOME=/home/op "$@"; }
cd /srv/inputs/fixlib
op git init -q
op git add -A
op git commit -qm "fixlib 0.9.1"
cd /home/op/infra
op git init -q
op git add -A
# Locking fetches into a store; the user's own throw-away one, as no daemon runs here.
op nix --store /tmp/store flake lock
op git add -A
op git commit -qm "All hosts: A"
op git clone -q --bare /home/op/infra /tmp/infra.git
op git remote add origin git@git:/srv/git/infra.git
# what a push and a fetch would have written
op git update-ref refs/remotes/origin/main main
op git symbolic-ref refs/remotes/origin/HEAD refs/remotes/origin/main
op git branch -q --set-upstream-to=origin/main main
cp -r /tmp/infra.git /run/golden/template/infra.git
rm -rf /home/op/.cache
cd /home/op2
cp -r /home/op/infra infra
chown -R op2:op2 infra
SCRIPT
in_root "$golden/role/git:$base" "$golden/host/git" <<'SCRIPT'
mkdir -p /srv/git
cp -r /run/golden/template/infra.git /srv/git/infra.git
git -C /srv/git/infra.git config --remove-section remote.origin || true
chown -R git:git /srv/git
SCRIPT

say "golden: closure A of every target"
# Built in a root that is thrown away, so that the builder does not get to know the input that only desk can fetch.
in_root "$golden/host/desk:$golden/role/desk:$base" "$golden/work/scratch" <<SCRIPT
export NIX_REMOTE=local
sed -i 's/^max-jobs.*/max-jobs = 2/' /etc/nix/nix.conf
git config --system --add safe.directory '*'
cp -r /home/op/infra /tmp/infra
chown -R root:root /tmp/infra
for name in desk ${lab_targets[*]}; do
    echo "/tmp/infra#nixosConfigurations.\$name.config.system.build.toplevel"
done | xargs nix build --no-link --print-out-paths >/tmp/paths
for top in \$(cat /tmp/paths); do
    name=\${top#*-nixos-system-}; name=\${name%-26.*}
    echo "\$top" >/run/golden/closure/\$name.path
    nix-store --export \$(nix-store -qR "\$top") >/run/golden/closure/\$name.nar
done
# The builder keeps the derivations and what it fetched to build them, as if it had built all this itself.
nix-store --export \$(nix-store -qR --include-outputs \$(nix-store -qd \$(cat /tmp/paths))) >/run/golden/closure/forge.nar
SCRIPT

give_identity='
name=$1
echo "$name" >/etc/hostname
echo -n "nixgate-lab-$name" | md5sum | cut -c1-32 >/etc/machine-id
install -m 600 "/run/golden/keys/host-$name" /etc/ssh/ssh_host_ed25519_key
install -m 644 "/run/golden/keys/host-$name.pub" /etc/ssh/ssh_host_ed25519_key.pub
'
for name in forge git; do
    lower=$golden/role/$name:$base
    in_root "$lower" "$golden/host/$name" sh -euc "$give_identity" sh "$name"
done
in_root "$golden/role/forge:$base" "$golden/host/forge" <<'SCRIPT'
export NIX_REMOTE=local
nix-store --import </run/golden/closure/forge.nar >/dev/null
mkdir -p /nix/var/nix/profiles/per-user /nix/var/nix/gcroots/lab
for path in /run/golden/closure/*.path; do
    name=${path##*/}
    ln -s "$(cat "$path")" "/nix/var/nix/gcroots/lab/${name%.path}"
done
SCRIPT
for name in desk "${lab_targets[@]}"; do
    in_root "$golden/role/$(host_role "$name"):$base" "$golden/host/$name" sh -euc "$give_identity"'
        export NIX_REMOTE=local
        top=$(cat "/run/golden/closure/$name.path")
        nix-store --import <"/run/golden/closure/$name.nar" >/dev/null
        nix-env -p /nix/var/nix/profiles/system --set "$top"
        "$top/bin/switch-to-configuration" boot
        "$top/activate" >/dev/null
        rm -rf /root/.cache /root/.nix-*
    ' sh "$name"
done
rm -rf "$golden/work" "$golden/closure" "$golden/template"
