# An operator's ssh_config says more of a host. $1: the host  $2…: lines
host=$1
shift
file=/home/op/.ssh/config
text=$(printf 'Host %s\n' "$host" && printf '  %s\n' "$@")
[[ $(<"$file") == *"$text"* ]] || {
    printf '%s\n' "$text" | cat - "$file" >"$file.new"
    chown op: "$file.new"
    chmod 600 "$file.new"
    mv "$file.new" "$file"
}
