# Prints a host's journal, and with "follow" whatever comes to it, until nobody reads any more.
# $1 follow|once  $2… journalctl's arguments
how=$1
shift
[ "$how" = follow ] || exec journalctl "$@"
trap '' PIPE
journalctl "$@" --follow &
j=$!
# Whoever read it may be gone, and a quiet journal would never find out: these lines are for nobody.
while kill -0 "$j" 2>/dev/null; do
	sleep 2
	echo >&2 || break
done
kill "$j" 2>/dev/null
wait "$j"
