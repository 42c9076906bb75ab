# Puts the profile back after a commit whose machine lost its power between the profile and the boot loader: it booted what
# ran before. Nothing is done unless all is so. After common.sh. $1 candidate  $2 previous toplevel  $3 generation before
profile=/nix/var/nix/profiles/system
open_lock || exit 1
flock -n 9 || {
	echo 'another run holds this host' >&2
	exit 1
}
[ "$(running_system)" = "$2" ] && [ "$(profile_system)" = "$1" ] || exit 0
# By its number, because --set of the old path would make another generation.
link=/nix/var/nix/profiles/system-$3-link
if [ "$(readlink -f "$link")" = "$2" ] || [ -n "$(specialised "$2" "$link")" ]; then
	nix-env --profile "$profile" --switch-generation "$3" 9>&- >&2
else
	nix-env --profile "$profile" --set "$2" 9>&- >&2
fi
