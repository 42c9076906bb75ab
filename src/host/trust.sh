# How the Nix daemon takes whoever asks; after login.sh. "ping" is what "info" was called before Nix 2.19.
ng_nix='nix --extra-experimental-features nix-command'
for v in info ping; do
	i=$($ng_nix store $v --json 2>&1) && break
done
r=$?
case $r:$i in
0:*'"trusted":true'* | 0:*'"trusted":1'*) ;;
*)
	printf 'groups=%s\n' "$(id -Gn)"
	{ $ng_nix config show 2>/dev/null || $ng_nix show-config 2>/dev/null; } |
		sed -n -e 's/^allowed-users =/nix_&/p' -e 's/^require-sigs =/nix_&/p'
	;;
esac
case $r in
0) printf '%s\n' "$i" | sed -n 's/^{/nix_store=&/p' ;;
*) printf '%s\n' "$i" | sed -n -e '/^{/d' -e 's/^/nix_error=/p' ;;
esac
