# Every path on stdin (below /nix/store) exists and is valid, and so does every other of the closure as it is registered
# here; dry-activate, then the pre-switch checks for a real switch: inhibitors let dry-activate pass and refuse "test".
# $1 toplevel  $2 digest of the closure that is expected: where another is registered, it is listed
# $3 the specialisation that is to run, or "". After common.sh.
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
# Which of the paths in file $1 are not valid. Several paths a line are not needed: xargs packs them.
valid() {
	xargs nix-store --check-validity --print-invalid <"$1" >"$t/invalid" 2>"$t/err"
}
# The closure of $2 out of what the database has of the paths in file $1, a line for each; 3: it has more paths than those.
dumped() {
	xargs nix-store --dump-db <"$1" >"$t/dump" 2>"$t/why" || return 1
	# nix-store --dump-db: path, hash, size, deriver or nothing, the number of references, and those.
	awk -v top="$2" '
		left { refers[field[1]] = refers[field[1]] " " $0; left--; next }
		{ field[++at] = $0 }
		at == 5 {
			sub(/^sha256:/, "", field[2])
			line[field[1]] = field[1] " sha256:" field[2] " " field[3] " " (field[4] == "" ? "-" : field[4])
			left = field[5] + 0
			at = 0
		}
		END {
			open[n = 1] = top
			seen[top] = 1
			for (i = 1; i <= n; i++) {
				if (!(open[i] in line)) exit 3
				print line[open[i]]
				m = split(refers[open[i]], list, " ")
				for (j = 1; j <= m; j++) if (!(list[j] in seen)) {
					seen[list[j]] = 1
					open[++n] = list[j]
				}
			}
		}' "$t/dump" >"$t/unsorted" 2>"$t/why"
}
# What is registered here: the same path may have other bytes, and other references, than where it was built.
registered() {
	dumped "$t/paths" "$1"
	s=$?
	if [ $s = 3 ]; then
		nix-store --query --requisites "$1" >"$t/own" 2>"$t/why" || return
		sort -u "$t/own" "$t/paths" >"$t/all"
		dumped "$t/all" "$1"
		s=$?
		sort -u "$t/paths" | comm -13 - "$t/all" | while IFS= read -r p; do
			[ -e "$p" ] || [ -L "$p" ] || printf 'missing=%s\n' "$p"
		done >"$t/gone"
	fi
	[ $s = 0 ] || return
	sort "$t/unsorted" >"$t/list"
	# The closure digest of docs/format.md.
	awk '{ printf "%s\001%s\n", $1, $2 }' "$t/list" | tr '\001' '\000' | sha256sum >"$t/digest"
}
# Beside the rehearsal, which changes nothing.
for f in gone invalid err; do : >"$t/$f"; done
{
	registered "$1"
	asked=$?
	# Its words name one path; all are wanted.
	[ "$asked" = 0 ] || valid "$t/paths"
	echo "$asked" >"$t/asked"
} &
for f in "" ${3:+"specialisation/$3/"}; do
	[ -z "$f" ] || [ -e "$1/$f" ] || {
		printf 'part=%s\n' "${f%/}" >>"$t/bad"
		break
	}
	for p in nixos-version bin/switch-to-configuration activate init sw/bin; do
		[ -e "$1/$f$p" ] || printf 'part=%s\n' "$f$p" >>"$t/bad"
	done
	# Damaged, or made so?
	[ -e "$1/${f}bin/switch-to-configuration" ] ||
		printf 'no_switch=%s\n' "$(made_without "$(readlink -f "$1/$f")")" >>"$t/bad"
done
stc=$1/${3:+specialisation/$3/}bin/switch-to-configuration
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
	cat "$t/why" "$t/err" >&2
	exit 1
fi
cat "$t/gone" >>"$t/bad"
while IFS= read -r p; do printf 'invalid=%s\n' "$p"; done <"$t/invalid" >>"$t/bad"
while IFS= read -r p; do printf '%s\n' "$p"; done <"$t/bad"
echo complete=1
if [ ! -s "$t/bad" ]; then
	printf 'status=%s\n' "$s"
	read -r digest _ <"$t/digest"
	printf 'digest=%s\n' "$digest"
	[ "$digest" = "$2" ] || sed 's/^/registered=/' "$t/list"
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
