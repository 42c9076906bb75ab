# Starts a run's supervisor. Runs as root on the target; stdin is the supervisor's text.
# $1 run  $2 previous toplevel  $3 the plan  $4 seconds a recovery may take  $5 target
umask 077
run=$1 previous=$2 plan=$3 stop=$4 target=$5
base=/run/nixgate dir=/run/nixgate/$1
mkdir -p "$base" && chmod 755 "$base" || exit 1

# What runs left behind whose unit is gone. Young ones without a state may be about to start.
now=$(date +%s)
alive() {
	case $(timeout 5 systemctl show --property=ActiveState --value "nixgate-$1.service") in
	inactive | failed) return 1 ;;
	esac
}
young() { [ $((now - $(stat -c %Y "$1" 2>/dev/null || echo "$now"))) -lt 120 ]; }
for d in "$base"/*/; do
	[ -d "$d" ] || continue
	d=${d%/}
	alive "${d##*/}" && continue
	[ ! -s "$d/state" ] && young "$d" && continue
	# Its operator has yet to read by whom, and clears up.
	[ -e "$d/superseded" ] && young "$d/superseded" && continue
	[ ! -e "$d/kept" ] || systemctl stop "nixgate-${d##*/}-kept.service"
	rm -rf "$d" && printf 'swept=%s\n' "$d"
done
# No target can be named like the folder of these roots. Until now it was `tmp`, which one can: there only a run's own.
g=/nix/var/nix/gcroots/nixgate
for l in "$g"/+tmp/* "$g"/tmp/*T*Z-?????? "$g"/tmp/*T*Z-??????+previous; do
	[ -L "$l" ] || continue
	r=${l##*/}
	r=${r%+previous}
	alive "$r" || [ -d "$base/$r" ] && continue
	rm -f "$l" && printf 'swept=%s\n' "$l"
done

# Where the record and the root will be after the commit. It is written to: root is told nothing by permissions.
for d in "/var/lib/nixgate/$target" /nix/var/nix/gcroots/nixgate; do
	if ! why=$( (umask 022 && mkdir -p "$d" && head -c 65536 /dev/zero >"$d/.$run") 2>&1); then
		rm -f "$d/.$run"
		printf 'unwritable=%s %s\n' "$d" "${why##*: }"
		exit 1
	fi
	rm -f "$d/.$run"
done

mkdir "$dir" || exit 1
# The reserve is given back when the host has to be, so that a full /run does not keep it from going back.
if ! { cat >"$dir/supervisor.sh" && : >"$dir/busy" && printf '%s' "$plan" >"$dir/plan" && mkfifo "$dir/fifo" &&
	head -c 1048576 /dev/zero >"$dir/reserve"; }; then
	rm -rf "$dir"
	exit 1
fi
bin=$previous/sw/bin
if [ -x "$bin/sh" ]; then sh=$bin/sh; else sh=/bin/sh bin=$PATH; fi
systemd-run --quiet --collect --no-ask-password --service-type=exec --unit="nixgate-$run" \
	--description="nixgate supervisor of run $run" \
	--property=IgnoreOnIsolate=yes --property=OOMPolicy=continue --property=OOMScoreAdjust=-900 \
	--property=TimeoutStopSec="$stop" \
	--property=Restart=on-failure --property=RestartSec=200ms \
	--property=StartLimitIntervalSec=3600 --property=StartLimitBurst=20 \
	--property=ExecStopPost="$sh $dir/supervisor.sh recover $dir" \
	--setenv=PATH="$bin" "$sh" "$dir/supervisor.sh" hold "$dir" || {
	systemctl stop "nixgate-$run.service" 2>/dev/null
	rm -rf "$dir"
	exit 1
}
n=0
until [ -s "$dir/state" ]; do
	n=$((n + 1))
	[ $n -lt 300 ] || break
	if [ $n -lt 50 ]; then sleep 0.003; else sleep 0.05; fi
done
cat "$dir/state"
if grep -q '^state=busy$' "$dir/state" 2>/dev/null; then
	sed 's/^/holder_/' "$base/holder" 2>/dev/null
	# Its ExecStopPost is in there: taken away too early it fails, and systemd starts the unit again and again.
	n=0
	while alive "$run" && [ $n -lt 150 ]; do
		n=$((n + 1))
		sleep 0.02
	done
	rm -rf "$dir"
fi
