# A setting of nix.conf is another one. $1: the key  $2: the value
file=/etc/nix/nix.conf
sed -i "/^$1 *=/d" "$file"
echo "$1 = $2" >>"$file"
systemctl try-restart nix-daemon.service
