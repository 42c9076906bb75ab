# Waits while a switch is going on, then prints the state and what switch-to-configuration said.
# $1 run  $2 seconds to wait
dir=/run/nixgate/$1
read -r begun _ </proc/uptime
begun=${begun%.*} n=0
# By the shell's own means: nothing is started while looking.
busy() {
	while IFS='=' read -r k v; do
		case $k:$v in
		state:switching | state:reverting | state:committing | state:commit-failed) return 0 ;;
		state:*) return 1 ;;
		esac
	done 2>/dev/null <"$dir/state"
	return 1
}
# The supervisor holds this lock as long as it switches; for what follows where it was killed, the state is looked at.
[ ! -e "$dir/busy" ] || flock -s -w "$2" "$dir/busy" true 2>/dev/null
while busy; do
	n=$((n + 1))
	read -r now _ </proc/uptime
	[ $((${now%.*} - begun)) -lt "$2" ] || break
	if [ $((n % 40)) = 0 ]; then
		# A systemd that executes itself anew answers nobody for a while.
		case $(timeout 2 systemctl show --property=ActiveState --value "nixgate-$1.service") in
		inactive | failed) break ;;
		esac
	fi
	if [ $n -lt 200 ]; then sleep 0.008; else sleep 0.2; fi
done
cat "$dir/state" 2>/dev/null
printf '\n--nixgate-section--\n'
tail -c 262144 "$dir/switch.out" 2>/dev/null
printf '\n--nixgate-section--\n'
tail -c 262144 "$dir/switch.err" 2>/dev/null
exit 0
