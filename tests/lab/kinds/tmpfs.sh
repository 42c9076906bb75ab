# A folder is a tmpfs, with what was in it. $1: the folder (/var/lib)
dir=${1:-/var/lib}
[[ $(findmnt -n -o FSTYPE -T "$dir") == tmpfs ]] || {
    new=$(mktemp -d)
    mount -t tmpfs -o mode=755 tmpfs "$new"
    cp -a "$dir/." "$new/"
    mount --move "$new" "$dir"
    rmdir "$new"
}
