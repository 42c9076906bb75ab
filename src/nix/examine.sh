# What the store's database says of every closure that must be whole, and what the disk has of it; reads only.
# $1 target  $2 "contents" to read every file as well  $3 the current record's toplevel, or nothing
# Prints: root NAME PATH · unregistered PATH · gone PATH · changed PATH · database N|ok|WHY, then "dump" and the
# output of nix-store --dump-db, then "end".
set -e
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
roots=/nix/var/nix/gcroots/nixgate
root() {
	case $2 in /nix/store/*) ;; *) return 0 ;; esac
	# Only the store path itself: a link may lead below it.
	p=${2#/nix/store/}
	printf 'root %s /nix/store/%s\n' "$1" "${p%%/*}"
}
{
	root running "$(readlink -f /run/current-system || :)"
	root booted "$(readlink -f /run/booted-system || :)"
	root profile "$(readlink -f /nix/var/nix/profiles/system || :)"
	root record "$3"
	for l in "$roots/$1"/* "$roots/+tmp"/*; do
		[ -L "$l" ] || continue
		root "${l#"$roots/"}" "$(readlink "$l")"
	done
} >"$t/roots" 2>/dev/null
cat "$t/roots"
cut -d ' ' -f 3 "$t/roots" | sort -u >"$t/tops"
[ -s "$t/tops" ] || exit 3
# Its exit status only repeats what it prints.
xargs nix-store --check-validity --print-invalid <"$t/tops" >"$t/invalid" 2>"$t/err" || [ -s "$t/invalid" ] || {
	cat "$t/err" >&2
	exit 1
}
sed 's/^/unregistered /' "$t/invalid"
grep -vxF -f "$t/invalid" "$t/tops" >"$t/valid" || :
: >"$t/paths"
: >"$t/dump"
if [ -s "$t/valid" ]; then
	xargs nix-store --query --requisites -- <"$t/valid" | sort -u >"$t/paths"
	[ -s "$t/paths" ]
	xargs nix-store --dump-db <"$t/paths" >"$t/dump"
fi
: >"$t/there"
while read -r p; do
	if [ -e "$p" ] || [ -L "$p" ]; then printf '%s\n' "$p" >>"$t/there"; else printf 'gone %s\n' "$p"; fi
done <"$t/paths"
if [ "$2" = contents ] && [ -s "$t/there" ]; then
	s=0
	xargs nix-store --verify-path <"$t/there" 2>"$t/said" || s=$?
	sed -n "s/^path '\\([^']*\\)' was modified!.*/changed \\1/p" "$t/said" | sort -u >"$t/changed"
	cat "$t/changed"
	# A file that cannot be read ends the reading: then nothing is known of the rest.
	if grep -q '^error' "$t/said" || { [ "$s" != 0 ] && [ ! -s "$t/changed" ]; }; then
		cat "$t/said" >&2
		exit 1
	fi
fi
db=/nix/var/nix/db/db.sqlite
sqlite=$(command -v sqlite3) || for f in /nix/store/*-sqlite-*/bin/sqlite3; do
	[ ! -x "$f" ] || sqlite=$f
done
if [ -z "$sqlite" ]; then
	echo 'database there is no sqlite3 on this host'
elif "$sqlite" -batch -readonly "$db" 'PRAGMA foreign_key_check' >"$t/keys" 2>"$t/err"; then
	n=$(wc -l <"$t/keys")
	if [ "$n" -eq 0 ]; then echo 'database ok'; else echo "database $((n))"; fi
else
	printf 'database %s\n' "$(tail -n 1 "$t/err" | tr -d '\n')"
fi
echo dump
cat "$t/dump"
echo end
