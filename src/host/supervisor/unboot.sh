# Takes back what --boot has set and no boot has proven: profile, boot default, and what boots once. What somebody else has set
# since stays. After common.sh and loader.sh. $1 candidate  $2 what runs  $3 generation before, or ""
profile=/nix/var/nix/profiles/system
open_lock || exit 1
flock -n 9 || {
	echo 'another run holds this host' >&2
	exit 1
}
if [ "$(running_system)" != "$2" ]; then
	echo "the host runs $(running_system)" >&2
	exit 1
fi
# First, while its entry is in the menu: a later generation could get its name.
o=$(boot_once)
if [ "${o%% *}" = "$1" ] || [ -n "$(specialised "${o%% *}" "$1")" ]; then
	set_once '' 9>&- >&2 || exit 1
fi
if [ "$(profile_system)" = "$1" ]; then
	link=/nix/var/nix/profiles/system-$3-link
	if [ -n "$3" ] && { [ "$(readlink -f "$link")" = "$2" ] || [ -n "$(specialised "$2" "$link")" ]; }; then
		new=$(profile_generation)
		nix-env --profile "$profile" --switch-generation "$3" 9>&- >&2 || exit 1
		# Not in any boot menu any more.
		[ "$new" -le "$3" ] || nix-env --profile "$profile" --delete-generations "$new" 9>&- >&2
	else
		t=$(specialised "$2" /nix/var/nix/profiles/system-*-link)
		[ -n "$t" ] || t="- $2"
		nix-env --profile "$profile" --set "${t#* }" 9>&- >&2 || exit 1
	fi
	"$(profile_system)/bin/switch-to-configuration" boot 9>&- >&2 || exit 1
fi
b=$(boot_default)
printf 'boot_default=%s\nboot_once=%s\n' "${b#* }" "$(boot_once)"
