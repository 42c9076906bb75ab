# Equal files of the store are one (auto-optimise-store).
sed -i '/^auto-optimise-store/d' /etc/nix/nix.conf
echo "auto-optimise-store = true" >>/etc/nix/nix.conf
nix store optimise 2>/dev/null
systemctl try-restart nix-daemon.service
