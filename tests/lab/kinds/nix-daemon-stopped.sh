# The Nix daemon's socket is stopped.
systemctl stop nix-daemon.socket nix-daemon.service
