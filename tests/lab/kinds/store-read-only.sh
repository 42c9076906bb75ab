# The store is a read-only bind mount of itself, as on every NixOS.
mountpoint -q /nix/store || mount --bind /nix/store /nix/store
mount -o remount,bind,ro /nix/store
