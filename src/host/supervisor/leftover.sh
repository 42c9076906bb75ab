# Waits for the end of a run's supervisor, then removes its directory and its temporary roots. $1 run
n=0
while :; do
	case $(timeout 2 systemctl show --property=ActiveState --value "nixgate-$1.service") in
	inactive | failed) break ;;
	esac
	n=$((n + 1))
	[ $n -lt 150 ] || exit 1
	if [ $n -lt 50 ]; then sleep 0.01; else sleep 0.05; fi
done
rm -rf "/run/nixgate/$1" "/nix/var/nix/gcroots/nixgate/+tmp/$1" "/nix/var/nix/gcroots/nixgate/+tmp/$1+previous"
