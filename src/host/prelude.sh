# Read by the login user's sh as part of one compound command; see wire.rs for what comes before and after.
# $1 nonce  $2 user|root|either|keep  $3 auto|none|ask  $4 seconds the script may take  $5 login|root, who reads this
# "keep" runs nothing: where sudo works without a password, a shell of root's reads on in this one's place.
# ng_pw is set when the operator gave a password; ng_body prints the program to run.
ng_n=$1 ng_want=$2 ng_sudo=$3 ng_secs=$4
printf '\n%s hello\n' "$ng_n"
printf '\n%s hello\n' "$ng_n" >&2
# The login's own PATH is what a copy finds its nix-daemon by.
ng_login=${PATH-} ng_daemon=
[ "$ng_want" != user ] || ng_daemon=$(command -v nix-daemon)
# Where NixOS has its programs, and Nix's installers Nix. All that root gets: nothing out of a user's own folders.
ng_system=/run/wrappers/bin:/run/current-system/sw/bin:/run/booted-system/sw/bin:/nix/var/nix/profiles/system/sw/bin
ng_system=$ng_system:/nix/var/nix/profiles/default/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PATH=$ng_system
LC_ALL=C
export PATH LC_ALL
# A shell that sudo has made root's knows it by ng_root, and need not ask each time: that is two programs.
case $5:${ng_root-} in
root:1) ng_uid=0 ng_user=root ;;
*) ng_uid=$(id -u) ng_user=$(id -un) ;;
esac
[ "$ng_uid" != 0 ] || HOME=/root
ng_how=user ng_why=
case $5:${ng_root-} in
root:1) ;;
*)
	PATH=$PATH:${HOME-}/.nix-profile/bin:${HOME-}/.local/state/nix/profile/bin:/etc/profiles/per-user/$ng_user/bin
	PATH=$PATH${ng_login:+:$ng_login}
	;;
esac
if [ "$ng_want" = user ]; then
	case $ng_daemon in
	/*) ng_daemon=login ;;
	*) ng_daemon=$(command -v nix-daemon) || ng_daemon=missing ;;
	esac
	printf '\n%s nix-daemon %s\n' "$ng_n" "$ng_daemon"
fi

# Says why sudo does not work, from its own words: those of sudo, sudo-rs, doas and run0 (tests/data/sudo-said).
ng_judge() {
	case $ng_e in
	*'incorrect authentication attempt'* | *'ncorrect authentication attempt'* | *'Authentication failed'*) ng_why=wrong-password ;;
	*'password is required'* | *'erminal is required'* | *'askpass'* | *'no password was provided'* | *'tty is required'*) ng_why=needs-password ;;
	*'nteractive authentication is required'* | *'nteractive authentication required'* | *'uthentication required'*) ng_why=needs-password ;;
	*'incorrect password'* | *'Sorry, try again'*) ng_why=wrong-password ;;
	*'not allowed to'* | *'not in the sudoers'* | *'may not run'* | *"afraid I can't do that"*) ng_why=not-allowed ;;
	*'Operation not permitted'* | *'Access denied'* | *'doas is not enabled'*) ng_why=not-allowed ;;
	*'must have a tty'*) ng_why=needs-tty ;;
	*) ng_why=other ;;
	esac
}

ng_find() {
	ng_exe=/run/wrappers/bin/sudo
	[ -x "$ng_exe" ] || ng_exe=$(command -v sudo)
	[ -n "$ng_exe" ]
}

# An activation rewrites /run/wrappers: for two seconds everything but a clear answer is tried again.
ng_probe() {
	ng_t=0
	while :; do
		if ng_find; then
			ng_e=$("$ng_exe" -n true 2>&1 </dev/null) && return 0
			ng_judge
			[ "$ng_why" = other ] || return 1
		else
			ng_why=missing ng_e='sudo: not found' ng_kin=
			for ng_k in doas run0; do
				! command -v $ng_k >/dev/null || ng_kin="$ng_kin, $ng_k"
			done
			[ -z "$ng_kin" ] || ng_e="$ng_e; what is there cannot take its place: ${ng_kin#, }"
			[ -d /run/wrappers ] || return 1
		fi
		ng_t=$((ng_t + 1))
		[ "$ng_t" -lt 10 ] || return 1
		sleep 0.2
	done
}

# Has sudo start a shell of root's that says itself that it is there, and reads what follows. Whether sudo works is not
# tried out first: nothing more is sent until that shell has answered. 1: sudo refused, by its own exit status or for want
# of a program; any other end is the end of a shell that had answered, and nobody may read on in its place.
ng_keep() {
	# shellcheck disable=SC2016
	"$ng_exe" -n -- /bin/sh -c '[ "$(id -u)" = 0 ] || exit 126
printf "\n%s begin\nsudo\n\n%s end 0\n" "$1" "$1"
printf "\n%s begin\n\n%s end 0\n" "$1" "$1" >&2
ng_root=1
export ng_root
exec /bin/sh' sh "$ng_n"
	case $? in 1 | 126 | 127) return 1 ;; esac
}

# With the password: first alone, so that a wrong one costs one attempt and none of the program's text.
ng_password() {
	ng_e=$(printf '%s\n' "$ng_pw" | "$ng_exe" -S -p '' -v 2>&1) || {
		ng_judge
		case $ng_why in needs-password) ng_why=wrong-password ;; esac
		return 1
	}
	ng_why=
	"$ng_exe" -n true 2>/dev/null </dev/null && ng_how=sudo || ng_how=password
}

case $ng_want:$ng_uid in
user:* | keep:* | *:0) ;;
*)
	if [ "$ng_sudo" = none ]; then
		ng_why=missing ng_e='sudo is switched off for this target (sudo = "none")'
	elif ng_probe; then
		ng_how=sudo ng_why=
	elif [ "$ng_sudo" = ask ] && [ "$ng_why" = needs-password ] && [ -n "${ng_pw-}" ]; then
		ng_password
	fi
	;;
esac
ng_go() {
	if [ -n "$ng_why" ]; then
		printf '\n%s sudo %s %s\n' "$ng_n" "$ng_why" "$ng_user"
		printf '%s\n' "$ng_e" >&2
	fi

	# The -c texts are constant. With a password the program comes by a pipe of its own: sudo-rs reads ahead of the
	# password, and a user who turns out to need none must not have it run as a command.
	# shellcheck disable=SC2016
	ng_run='exec env -i PATH="$1" HOME=/root USER=root LOGNAME=root LC_ALL=C timeout -k 2 "$2" /bin/sh'
	# shellcheck disable=SC2016
	ng_piped='exec <"$3"; '$ng_run
	if [ -n "$ng_why" ] && [ "$ng_want" = root ]; then
		ng_s=1
	else
		case $ng_how in
		user)
			ng_body | env -i PATH="$PATH" HOME="${HOME-/}" USER="$ng_user" LOGNAME="$ng_user" LC_ALL=C \
				timeout -k 2 "$ng_secs" /bin/sh
			ng_s=$?
			;;
		sudo)
			ng_body | "$ng_exe" -n -- /bin/sh -c "$ng_run" sh "$ng_system" "$ng_secs"
			ng_s=$?
			;;
		password)
			ng_f=/tmp/nixgate-$ng_n
			if (umask 077 && mkdir "$ng_f" && mkfifo "$ng_f/in"); then
				ng_body >"$ng_f/in" &
				printf '%s\n' "$ng_pw" | "$ng_exe" -S -p '' -- /bin/sh -c "$ng_piped" sh "$ng_system" "$ng_secs" "$ng_f/in"
				ng_s=$?
				# Where sudo refused, nobody will ever open the other end.
				kill $! 2>/dev/null
			else
				ng_s=1
			fi
			rm -rf "$ng_f"
			;;
		esac
	fi
	printf '\n%s end %s\n' "$ng_n" "$ng_s"
	printf '\n%s end %s\n' "$ng_n" "$ng_s" >&2
}

if [ "$ng_want" = keep ]; then
	if [ "$ng_uid" != 0 ]; then
		ng_find && ng_keep && exit 0
		# The first try failed: an activation may be rewriting the wrappers. Probed until that is over, and tried once more.
		ng_probe && ng_keep && exit 0
	fi
	printf '\n%s begin\nuser\n\n%s end 0\n' "$ng_n" "$ng_n"
	printf '\n%s begin\n\n%s end 0\n' "$ng_n" "$ng_n" >&2
else
	ng_go
fi
