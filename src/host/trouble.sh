# What a host says of what went wrong since a run began: units that failed, with their last lines, and the kernel's log.
# $1 run  $2 seconds since 1970, this host's clock  $3… units that had failed before
# After kernel.sh. Reads only. Every question has a deadline and every answer a bound of its own: a sick host costs seconds.
run=$1 since=$2
shift 2

# Units whose failure systemd wrote down since then, with how it came about: also those that a revert has replaced.
# The id is that of "Failed with result" (systemd's catalog). Any user can write that to the journal, and name a unit; who
# wrote it is the journal's own word: the manager is process 1 (systemd.journal-fields(7), trusted fields).
logged() {
	short journalctl --no-pager --quiet --since="@$since" --output=export --output-fields=UNIT,UNIT_RESULT \
		_PID=1 _UID=0 MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c | {
		u='' r=''
		while IFS='=' read -r k v; do
			case $k in
			UNIT) u=$v ;;
			UNIT_RESULT) r=$v ;;
			'')
				[ -z "$u" ] || printf '%s %s\n' "$u" "$r"
				u='' r=''
				;;
			esac
		done
	}
}

before=$(
	for u do printf '%s\n' "$u"; done
	cat "/run/nixgate/$run/failed-before" 2>/dev/null
)
all=$(logged)
failed=$(short systemctl list-units --failed --no-legend --plain --no-pager --full | while read -r u _; do
	printf '%s\n' "$u"
done | grep -v -x -F -e "$before")
# What fails now comes first; what failed and is up again, or gone, after it.
printf '%s\n' "$failed" "$(printf '%s\n' "$all" | while read -r u _; do printf '%s\n' "$u"; done)" |
	awk 'NF && !/^nixgate-/ && !seen[$0]++' | head -n 4 | while IFS= read -r u; do
	printf 'unit %s\n' "$u"
	{
		short systemctl show --property=Result --value -- "$u"
		printf '%s\n' "$all" | while read -r n r; do [ "$n" != "$u" ] || printf '%s\n' "$r"; done
	} | awk 'NF && $0 != "success" && !seen[$0]++ { print "result " $0 }'
	short systemctl --no-pager --full --lines=0 status -- "$u" | lines status 12
	short journalctl --no-pager --quiet --since="@$since" --output=cat --unit="$u" | lines said 20
done

kernel_log
