# Prints those derivations that two systems do not share: the path on a line, its text on the next. Both are walked from
# the top, level by level, and neither further than where the other has the same outputs or the same derivation, so
# that what is printed may hold more than is asked for, never less. A derivation's text is one line.
# $1 the new toplevel's derivation, then candidates for the old one: the first that is here is taken
new=$1
shift
old=
for d; do
	[ ! -r "$d" ] || { old=$d && break; }
done
if [ ! -r "$new" ] || [ -z "$old" ]; then
	printf 'gone\n'
	exit 0
fi
pack=cat how=plain
! command -v gzip >/dev/null 2>&1 || pack='gzip -1' how=gzip
printf '%s %s %s\n' "$how" "$old" "$new"
awk -v old="$old" -v new="$new" '
function visit(path, side,    text, at, rest, part, n, i, ok) {
	if ((getline text < path) <= 0) { bad = 1; return }
	close(path)
	if (!(path in printed)) { print path; print text; printed[path] = 1 }
	at = index(text, ")],[")
	n = split(substr(text, 1, at), part, "\"")
	ok = 0
	for (i = 4; i <= n; i += 8) {
		made[side, part[i]] = 1
		if (part[i] == "") ok = -1
	}
	rest = substr(text, at + 3)
	outs[side, path] = (ok < 0) ? "" : part[4]
	inputs[side, path] = ""
	if (substr(rest, 1, 2) == "[]") return
	rest = substr(rest, 1, index(rest, "])],["))
	n = split(rest, part, "\"")
	for (i = 2; i <= n; i += 2)
		if (part[i] ~ /^\/nix\/store\/.*\.drv$/) inputs[side, path] = inputs[side, path] part[i] " "
}
function next_level(side, other,    i, n, j, path, list) {
	count[side] = 0
	for (i = 1; i <= size[side]; i++) {
		path = level[side, i]
		if (outs[side, path] != "" && (other, outs[side, path]) in made) continue
		n = split(inputs[side, path], list, " ")
		for (j = 1; j <= n; j++)
			if (!((side, list[j]) in seen)) {
				seen[side, list[j]] = 1
				ahead[side, ++count[side]] = list[j]
			}
	}
}
function go(side, other,    i) {
	size[side] = 0
	for (i = 1; i <= count[side]; i++)
		if (!((other, ahead[side, i]) in seen)) level[side, ++size[side]] = ahead[side, i]
	for (i = 1; i <= size[side]; i++) visit(level[side, i], side)
}
BEGIN {
	if (old == new) exit 0
	count["o"] = count["n"] = 1
	ahead["o", 1] = old; seen["o", old] = 1
	ahead["n", 1] = new; seen["n", new] = 1
	while (count["o"] + count["n"] > 0 && !bad) {
		go("o", "n"); go("n", "o")
		next_level("o", "n"); next_level("n", "o")
	}
	print (bad ? "unreadable" : "complete")
}' </dev/null | $pack
