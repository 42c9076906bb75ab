# A folder cannot be written. $1: the folder (/var/lib)
dir=${1:-/var/lib}
mountpoint -q "$dir" || mount --bind "$dir" "$dir"
mount -o remount,bind,ro "$dir"
