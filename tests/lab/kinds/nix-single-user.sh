# Nix has no daemon: the store belongs to the one who uses it. $1: the user (build)
systemctl stop nix-daemon.socket nix-daemon.service
systemctl mask --quiet --runtime nix-daemon.socket nix-daemon.service
rm -rf /nix/var/nix/daemon-socket
chown -R "${1:-build}:" /nix
