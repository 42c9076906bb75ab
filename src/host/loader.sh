# What boots by default, and what boots once. Between common.sh, whose functions it uses, and the scripts that ask.
# What cannot be read, or is nobody's to tell from here, is "not-verifiable".

boot_dir=/boot
efi_dir=/sys/firmware/efi

# /nix/store/…-nixos-system-x out of a kernel command line.
init_of() {
	sed -n 's|.*init=\(/nix/store/[^/ "]*\)/init.*|\1|p' | sed -n 1p
}

# Prints two words: the loader, and the toplevel booted by default or "not-verifiable". What boots once is another question.
boot_default() {
	# systemd-boot is started by EFI firmware and by nothing else.
	b=$(boot_entries)
	[ -z "$b" ] || {
		d=$(default_entry "$b" | init_of)
		printf 'systemd-boot %s\n' "${d:-not-verifiable}"
		return
	}
	for c in "$boot_dir/extlinux/extlinux.conf" "$boot_dir/syslinux/syslinux.cfg"; do
		[ -r "$c" ] || continue
		awk -v want='init=/nix/store/[^/ "]*/init' '
			toupper($1) == "DEFAULT" && /^[Dd]/ && d == "" { d = $2 }
			toupper($1) == "LABEL" { l = $2 }
			toupper($1) == "APPEND" && !(l in a) {
				a[l] = ""
				while (match($0, want)) {
					a[l] = substr($0, RSTART + 5, RLENGTH - 10)
					$0 = substr($0, RSTART + RLENGTH)
				}
			}
			END { print "extlinux", d in a && a[d] != "" ? a[d] : "not-verifiable" }' "$c"
		return
	done
	for c in "$boot_dir/grub/grub.cfg" "$boot_dir/grub2/grub.cfg"; do
		[ -r "$c" ] || continue
		d=$(grub_entry "$c" "$(grub_choice "$c")" | init_of)
		printf 'grub %s\n' "${d:-not-verifiable}"
		return
	done
	# Their files count entries of a tree that may be folded, and the loaders remember what a person chose.
	for c in limine/limine.conf limine.conf EFI/limine/limine.conf; do
		[ ! -r "$boot_dir/$c" ] || {
			echo 'limine not-verifiable'
			return
		}
	done
	for c in EFI/refind/refind.conf efi/EFI/refind/refind.conf; do
		[ ! -r "$boot_dir/$c" ] || {
			echo 'refind not-verifiable'
			return
		}
	done
	if [ -n "$(container_kind)" ]; then
		p=$(profile_system)
		printf 'none %s\n' "${p:-not-verifiable}"
	else
		echo 'unknown not-verifiable'
	fi
}

# --- systemd-boot, also with unified kernel images and lanzaboote's stubs --------------------------------------------

# The entries of its menu, one JSON object a line, in its order; nothing where there is no such menu.
boot_entries() {
	[ -d "$efi_dir" ] && e=$(bootctl list --json=short --no-pager 2>/dev/null) || return 0
	case $e in
	'' | '[]') ;;
	*) printf '%s\n' "$e" | sed -e 's|\\/|/|g' -e 's/},{/}\
{/g' ;;
	esac
}

entry_id() { sed -n 's/.*"id":"\([^"]*\)".*/\1/p' | sed -n 1p; }

# One of its EFI variables, as text: four bytes of attributes, then UTF-16 (systemd.io/BOOT_LOADER_INTERFACE).
loader_variable() {
	v=$efi_dir/efivars/$1-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
	[ ! -s "$v" ] || tail -c +5 "$v" 2>/dev/null | tr -d '\000'
}

# The value of a key of its loader.conf.
loader_conf() {
	for c in /efi/loader/loader.conf "$boot_dir/loader/loader.conf" /boot/efi/loader/loader.conf; do
		[ -r "$c" ] || continue
		w=''
		while read -r k v; do [ "$k" != "$1" ] || w=$v; done <"$c"
		printf '%s\n' "$w"
		return
	done
}

# Of the entries $1 the first whose id is like the pattern $2, without regard to case: systemd's src/shared/bootspec.c.
entry_like() {
	like=$(printf '%s' "$2" | tr '[:upper:]' '[:lower:]')
	printf '%s\n' "$1" | while IFS= read -r e; do
		i=$(printf '%s\n' "$e" | entry_id | tr '[:upper:]' '[:lower:]')
		# shellcheck disable=SC2254
		case $i in $like)
			printf '%s\n' "$e"
			break
			;;
		esac
	done
}

# Of the entries $1 the one that boots by default. bootctl marks what boots once in its place, while there is such a one: then
# it is looked for as systemd-boot does.
default_entry() {
	[ -n "$(loader_variable LoaderEntryOneShot)" ] || {
		printf '%s\n' "$1" | grep -e '"isDefault":true'
		return
	}
	for want in "$(loader_variable LoaderEntryPreferred)" "$(loader_variable LoaderEntryDefault)" \
		"$(loader_conf preferred)" "$(loader_conf default)"; do
		case $want in '') continue ;; @*) return ;; esac
		found=$(entry_like "$1" "$want")
		[ -z "$found" ] || {
			printf '%s\n' "$found"
			return
		}
	done
}

# What boots once, at the next boot only: the toplevel, or "-", and the entry. Nothing where the next boot is the default's.
boot_once() {
	i=$(loader_variable LoaderEntryOneShot)
	[ -z "$i" ] || {
		found=$(entry_like "$(boot_entries)" "$i")
		[ -n "$found" ] || return 0
		t=$(printf '%s\n' "$found" | init_of)
		printf '%s %s\n' "${t:--}" "$i"
		return
	}
	for c in "$boot_dir/grub/grub.cfg" "$boot_dir/grub2/grub.cfg"; do
		[ -r "$c" ] || continue
		i=$(grub_env "$c" next_entry)
		[ -n "$i" ] || continue
		t=$(grub_entry "$c" "$i" | init_of)
		printf '%s %s\n' "${t:--}" "$i"
		return
	done
}

# Makes entry $1 the one that boots once; "": none.
set_once() { timeout 30 bootctl set-oneshot "$1"; }

# Whether loader $1 can boot one system once and another one after that: only where whoever installs a system names it as the
# default. A pattern takes the newest entry of all, and a variable wins over the file.
can_boot_once() {
	[ "$1" = systemd-boot ] || return 1
	fixed=$(loader_variable LoaderEntryPreferred)$(loader_variable LoaderEntryDefault)$(loader_conf preferred)
	[ -z "$fixed" ] || return 1
	chosen=$(loader_conf default)
	case $chosen in '' | @* | *[*?[]*) return 1 ;; esac
}

# --- GRUB -----------------------------------------------------------------------------------------------------------

# A variable of the environment block beside grub.cfg $1.
grub_env() {
	[ ! -r "${1%/*}/grubenv" ] || sed -n "s/^$2=//p" "${1%/*}/grubenv" | sed -n 1p
}

# What grub.cfg $1 takes for its default: an index, an id or a title, with ">" into a submenu. The last that is set counts: those
# before it are for grub-reboot.
grub_choice() {
	n=$(sed -n 's/^[[:space:]]*set default="\{0,1\}\([^"]*[^"[:space:]]\)"\{0,1\}[[:space:]]*$/\1/p' "$1" | tail -n 1)
	# shellcheck disable=SC2016
	case $n in
	'${saved_entry}' | saved)
		[ -r "${1%/*}/grubenv" ] || return 0
		n=$(grub_env "$1" saved_entry)
		printf '%s\n' "${n:-0}"
		;;
	*[\$]*) ;;
	*) printf '%s\n' "$n" ;;
	esac
}

# The line of grub.cfg $1 with the command line of entry $2, at the top or in a submenu. Nothing where there is no such entry.
grub_entry() {
	[ -n "$2" ] || return 0
	WANT=$2 awk '
		BEGIN { deep = split(ENVIRON["WANT"], want, ">"); depth = 0; at = 0 }
		# Whether this entry, the nth of its menu, is the one wanted at this depth.
		function is_it(line, n, part) {
			if (want[part] ~ /^[0-9]+$/) return n == want[part] + 0
			if (line ~ /--id[ =]/) { id = line; sub(/.*--id[ =]*["\047]?/, "", id); sub(/["\047 ].*/, "", id); if (id == want[part]) return 1 }
			title = line
			sub(/^[[:space:]]*(menuentry|submenu)[[:space:]]*/, "", title)
			quote = substr(title, 1, 1)
			title = substr(title, 2)
			sub(quote ".*", "", title)
			return title == want[part]
		}
		# `at` is how far the path was followed; entries beside it do not count.
		/^[[:space:]]*(menuentry|submenu) / && depth == at && !on {
			if (is_it($0, count[depth]++, at + 1)) {
				if (at + 1 == deep) on = /^[[:space:]]*menuentry /
				else if (/^[[:space:]]*submenu /) at++
			}
		}
		on && /init=/ { print; exit }
		/{[[:space:]]*$/ { depth++ }
		/^[[:space:]]*}/ { depth--; if (depth < at || on) exit }' "$1"
}

