# The builder signs what it builds, and the target knows its key. $1: builder or target
PATH=$PATH:/nix/var/nix/profiles/default/bin
case $1 in
    builder)
        echo "lab-1:iKtETYpZt4QOqN408+OVry3pstUGtzHOZOg1NjB0Qayoz7ErWP2GQlP4GLavEY7903RKadDR6zD5v3rRa+vZcA==" >/etc/nix/signing-key
        chmod 600 /etc/nix/signing-key
        sed -i '/^secret-key-files/d' /etc/nix/nix.conf
        echo "secret-key-files = /etc/nix/signing-key" >>/etc/nix/nix.conf
        nix store sign --quiet --all --key-file /etc/nix/signing-key
        ;;
    target)
        sed -i '/^trusted-public-keys/d' /etc/nix/nix.conf
        echo "trusted-public-keys = lab-1:qM+xK1j9hkJT+Bi2rxGO/dN0SmnQ0esw+b960Wvr2XA=" >>/etc/nix/nix.conf
        ;;
esac
systemctl try-restart nix-daemon.service
