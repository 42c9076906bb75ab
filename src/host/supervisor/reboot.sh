# Makes a system the next boot. After common.sh. $1 candidate  $2 previous toplevel
candidate=$1 previous=$2 profile=/nix/var/nix/profiles/system oneshot=
before=$(profile_generation) all=$(generations)
printf 'generation_before=%s\n' "$before"
nix-env --profile "$profile" --set "$candidate" || exit 1
"$candidate/bin/switch-to-configuration" boot >&2
s=$?
if [ $s -ne 0 ]; then
	nix-env --profile "$profile" --switch-generation "$before" >&2
	printf '%s\n' "$all" | drop_new_generations >&2
	"$previous/bin/switch-to-configuration" boot >&2
elif b=$(boot_default) && [ "$b" = "systemd-boot $candidate" ]; then
	# The entry's id, then: default back to the previous system, this one once.
	new=$(bootctl list --json=short --no-pager | sed -e 's|\\/|/|g' -e 's/},{/}\
{/g' | grep -e '"isDefault":true' | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')
	if [ -n "$new" ] && "$previous/bin/switch-to-configuration" boot >&2 && bootctl set-oneshot "$new" >&2; then
		oneshot=1
	else
		"$candidate/bin/switch-to-configuration" boot >&2
	fi
fi
printf 'status=%s\noneshot=%s\n' "$s" "$oneshot"
b=$(boot_default)
printf 'running=%s\nprofile=%s\ngeneration=%s\nboot_loader=%s\nboot_default=%s\n' "$(running_system)" \
	"$(profile_system)" "$(profile_generation)" "${b%% *}" "${b#* }"
