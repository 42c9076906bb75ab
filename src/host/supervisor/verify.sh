# Every path on stdin (below /nix/store) exists and is valid; dry-activate, then the pre-switch checks for a real switch:
# inhibitors let dry-activate pass and refuse "test". $1 toplevel
# The paths are read once into a file: a pipe would end with the first command.
t=$(mktemp -d) || exit 1
trap 'rm -rf "$t"' EXIT
while IFS= read -r p; do
	printf '/nix/store/%s\n' "$p"
	[ -e "/nix/store/$p" ] || [ -L "/nix/store/$p" ] || {
		printf 'missing=/nix/store/%s\n' "$p" >>"$t/bad"
	}
done >"$t/paths"
: >>"$t/bad"
# Several paths a line are not needed: xargs packs them. Beside the rehearsal, which changes nothing.
{
	xargs nix-store --check-validity --print-invalid <"$t/paths" >"$t/invalid" 2>"$t/err"
	echo $? >"$t/asked"
} &
for f in nixos-version bin/switch-to-configuration activate init sw/bin; do
	[ -e "$1/$f" ] || printf 'part=%s\n' "$f" >>"$t/bad"
done
stc=$1/bin/switch-to-configuration
if [ ! -s "$t/bad" ]; then
	"$stc" dry-activate >"$t/out" 2>"$t/errs"
	s=$?
	if [ $s -eq 0 ]; then
		"$stc" check >"$t/check" 2>"$t/checks"
		c=$?
		# An older program does not know "check" and answers with its usage: then "test" will tell.
		if [ $c -ne 0 ] && ! grep -q -i -e '^usage:' "$t/check" "$t/checks"; then
			s=$c
			cat "$t/check" >>"$t/out"
			cat "$t/checks" >>"$t/errs"
		fi
	fi
fi
wait
read -r asked <"$t/asked"
if [ "$asked" != 0 ] && [ ! -s "$t/invalid" ]; then
	cat "$t/err" >&2
	exit 1
fi
while IFS= read -r p; do printf 'invalid=%s\n' "$p"; done <"$t/invalid" >>"$t/bad"
while IFS= read -r p; do printf '%s\n' "$p"; done <"$t/bad"
echo complete=1
if [ ! -s "$t/bad" ]; then
	printf 'status=%s\n' "$s"
	# How the host stands just before a switch; nothing is started for it.
	while IFS=' ' read -r k v _; do
		[ "$k" != MemAvailable: ] || printf 'MemAvailable=%s\n' "$v"
	done </proc/meminfo
	{ read -r _ v _ </proc/pressure/memory && printf 'psi_memory=%s\n' "${v#avg10=}"; } 2>/dev/null
	printf '\n--nixgate-section--\n'
	cat "$t/out"
	printf '\n--nixgate-section--\n'
	cat "$t/errs"
fi
exit 0
