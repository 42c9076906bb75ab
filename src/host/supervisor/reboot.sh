# Makes a system the next boot. After common.sh and loader.sh.
# $1 candidate  $2 previous system  $3 the candidate's specialisation, or ""  $4 1: a boot loader that does not tell is taken
candidate=$1 previous=$2 accept=$4 profile=/nix/var/nix/profiles/system oneshot='' elsewhere='' s=0
effective=$candidate
[ -z "$3" ] || effective=$(readlink -f "$candidate/specialisation/$3")
before=$(profile_generation) all=$(generations) old=$(boot_default) pending=$(boot_once)
# What runs may be a specialisation: the toplevel that it belongs to writes the menu.
back=$previous
t=$(specialised "$previous" "$(profile_system)" /nix/var/nix/profiles/system-*-link)
[ -z "$t" ] || back=${t#* }
boots_candidate() { case ${1#* } in "$candidate" | "$effective") ;; *) return 1 ;; esac }

printf 'generation_before=%s\n' "$before"
nix-env --profile "$profile" --set "$candidate" || exit 1
"$candidate/bin/switch-to-configuration" boot >&2
s=$?
b=$(boot_default)
# Whoever could be read must still be, unless a person has said that the new one cannot.
if [ $s -eq 0 ] && ! boots_candidate "$b"; then
	case ${b#* }:${old#* } in
	not-verifiable:not-verifiable) ;;
	not-verifiable:*) [ -n "$accept" ] || elsewhere=$b ;;
	*) elsewhere=$b ;;
	esac
fi
if [ $s -ne 0 ] || [ -n "$elsewhere" ]; then
	nix-env --profile "$profile" --switch-generation "$before" >&2
	printf '%s\n' "$all" | drop_new_generations >&2
	"$back/bin/switch-to-configuration" boot >&2
elif [ "${b%% *}" = systemd-boot ] && boots_candidate "$b"; then
	# The candidate's entry, then: default back to what it was, this one once. Whether the default went back is asked before: a
	# pattern takes the newest entry, whoever wrote the menu.
	new=$(default_entry "$(boot_entries)" | entry_id)
	if [ -n "$new" ] && ! boots_candidate "$old" && "$back/bin/switch-to-configuration" boot >&2 &&
		[ "$(boot_default)" = "$old" ] && set_once "$new" >&2; then
		oneshot=1
	else
		"$candidate/bin/switch-to-configuration" boot >&2
		s=$?
		# What an earlier --boot wanted would come first.
		[ -z "$pending" ] || set_once '' >&2
	fi
fi
printf 'status=%s\noneshot=%s\nelsewhere=%s\n' "$s" "$oneshot" "$elsewhere"
b=$(boot_default)
printf 'running=%s\nprofile=%s\ngeneration=%s\nboot_loader=%s\nboot_default=%s\nboot_once=%s\n' "$(running_system)" \
	"$(profile_system)" "$(profile_generation)" "${b%% *}" "${b#* }" "$(boot_once)"
