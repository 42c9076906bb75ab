# Sets what boots next, in a unit of its own: whoever asked may be cut off, a boot loader that is being written may not.
# While it is at work the run's supervisor does not let go. Asked again, it waits for the same one.
# $1 run  $2 candidate  $3 previous system  $4 specialisation  $5 accept; stdin is the work's text. Without $2: only waits. Exit 3: it never began.
dir=/run/nixgate/$1 unit=nixgate-$1-nextboot.service
if [ ! -e "$dir/nextboot.busy" ] && [ ! -e "$dir/nextboot.set" ]; then
	[ -n "$2" ] && [ -d "$dir" ] || exit 3
	umask 077
	cat >"$dir/nextboot.sh" && : >"$dir/nextboot.busy" || exit 1
	# shellcheck disable=SC2016
	systemd-run --quiet --collect --no-ask-password --service-type=exec --unit="$unit" \
		--description="nixgate: sets what boots next" --property=IgnoreOnIsolate=yes --setenv=PATH="$PATH" \
		"$(command -v sh)" -c 'sh "$1/nextboot.sh" "$2" "$3" "$4" "$5" >"$1/nextboot.new" 2>"$1/nextboot.err" </dev/null
			mv -f "$1/nextboot.new" "$1/nextboot.set"; rm -f "$1/nextboot.busy"' sh "$dir" "$2" "$3" "$4" "$5" || {
		rm -f "$dir/nextboot.busy"
		exit 1
	}
fi
n=0
until [ -e "$dir/nextboot.set" ]; do
	n=$((n + 1))
	if [ $((n % 20)) = 0 ]; then
		case $(timeout 5 systemctl show --property=ActiveState --value "$unit") in
		inactive | failed) [ -e "$dir/nextboot.set" ] || exit 3 ;;
		esac
	fi
	sleep 0.05
done
cat "$dir/nextboot.set"
cat "$dir/nextboot.err" >&2
