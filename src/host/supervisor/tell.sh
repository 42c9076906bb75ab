# Sends the supervisor one message and waits for its answer.
# $1 run  $2 seconds to wait  $3 verb  $4 nonce
dir=/run/nixgate/$1 n=0
busy=$dir/busy
[ -p "$dir/fifo" ] || {
	cat "$dir/state" 2>/dev/null
	exit 0
}
# By the shell's own means: nothing is started while looking.
answered() {
	heard='' word=''
	while IFS='=' read -r k v; do
		case $k in nonce) heard=$v ;; answer) word=$v ;; esac
	done 2>/dev/null <"$dir/state"
	[ "$heard" = "$4" ] && [ -n "$word" ]
}
gone() {
	# A systemd that executes itself anew answers nobody for a while.
	case $(timeout 2 systemctl show --property=ActiveState --value "nixgate-$1.service") in
	inactive | failed) return 0 ;;
	esac
	return 1
}
# Opened for both, a FIFO that nobody reads blocks nobody (fifo(7), Linux).
printf '%s\n' "$3 $4" 1<>"$dir/fifo"
read -r begun _ </proc/uptime
begun=${begun%.*}
until answered "$@"; do
	n=$((n + 1))
	read -r now _ </proc/uptime
	now=$((${now%.*} - begun))
	[ "$now" -lt "$2" ] || break
	if [ "$heard:$busy" = "$4:$dir/busy" ] && [ -e "$busy" ]; then
		# Heard, and being done: the supervisor holds this lock meanwhile, and loses it where it is killed.
		flock -s -w $(($2 - now)) "$busy" true 2>/dev/null
		busy=''
		continue
	fi
	if [ $((n % 40)) = 0 ] && gone "$1"; then break; fi
	if [ $n -lt 20 ]; then sleep 0.003; elif [ $n -lt 150 ]; then sleep 0.01; else sleep 0.2; fi
done
[ "$3" = switch ] || cat "$dir/state" 2>/dev/null
