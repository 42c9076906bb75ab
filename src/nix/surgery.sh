# Changes Nix's database by hand, with the daemon stopped and a backup beside it. Runs as root.
# $1 a name for the transient unit  $2 the folder for backup and SQL, made here  $3 the backup's name, or nothing
# stdin: the SQL. Prints "backup PATH" and "done".
umask 077
unit=$1 dir=$2 backup=$3
sqlite=$(command -v sqlite3) || for f in /nix/store/*-sqlite-*/bin/sqlite3; do
	[ ! -x "$f" ] || sqlite=$f
done
[ -n "$sqlite" ] || {
	echo 'there is no sqlite3 on this host, on PATH or in the store' >&2
	exit 9
}
mkdir -p "$dir" || exit 1
cat >"$dir/sql" || exit 1
# What runs now is what is started again.
units=
for u in nix-daemon.socket nix-daemon.service; do
	if systemctl is-active --quiet "$u"; then units="$units $u"; fi
done
cat >"$dir/work.sh" <<'WORK' || exit 1
# $1 sqlite3  $2 folder  $3 backup's name  $4... units to stop
sqlite=$1 dir=$2 backup=$3
shift 3
db=/nix/var/nix/db/db.sqlite
[ $# = 0 ] || systemctl stop "$@" || exit 1
# Stopping the daemon leaves its workers alone (KillMode=process). Everybody who has the database open shares this lock.
exec 9>>/nix/var/nix/db/big-lock
flock -x -w 60 9 || {
	echo 'somebody still works with the database (/nix/var/nix/db/big-lock): nothing was changed'
	exit 3
}
if [ -n "$backup" ]; then
	# Through SQLite itself: what the write-ahead log holds is part of it.
	"$sqlite" -batch "$db" ".backup '$dir/$backup'" 9>&- || exit 1
	[ "$("$sqlite" -batch "$dir/$backup" 'PRAGMA integrity_check' 9>&-)" = ok ] || {
		echo 'the backup is not sound: nothing was changed'
		exit 1
	}
	sync "$dir/$backup"
	echo "backup $dir/$backup"
fi
"$sqlite" -batch -bail "$db" <"$dir/sql" 9>&- || exit 1
echo done
WORK
start=
[ -z "$units" ] || start="$(command -v systemctl) start$units"
# In a unit of its own: a lost connection does not end it in the middle, and whatever ends it, the daemon is started.
# shellcheck disable=SC2086
systemd-run --quiet --wait --collect --no-ask-password --service-type=exec --unit="$unit" \
	--description='nixgate: repair of the Nix database' \
	--property=TimeoutStopSec=90 ${start:+--property=ExecStopPost="$start"} \
	--property=StandardOutput="file:$dir/said" --property=StandardError="append:$dir/said" \
	--setenv=PATH="$PATH" "$(command -v sh)" "$dir/work.sh" "$sqlite" "$dir" "$backup" $units
s=$?
cat "$dir/said" 2>/dev/null
rm -f "$dir/said" "$dir/work.sh" "$dir/sql"
for u in $units; do
	systemctl is-active --quiet "$u" || systemctl start "$u" || {
		echo "$u does not start again" >&2
		s=1
	}
done
exit "$s"
