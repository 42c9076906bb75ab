# What makes people root here is another program: sudo-rs in sudo's place, or only doas, only run0, or none. $1: which
case $1 in
    sudo-rs) ln -sfn sudo-rs /usr/bin/sudo ;;
    doas)
        rm -f /usr/bin/sudo /run/wrappers/bin/sudo
        echo "permit nopass jarvis" >/etc/doas.conf
        ln -sfn /usr/bin/doas /run/wrappers/bin/doas
        ;;
    run0 | none) rm -f /usr/bin/sudo /run/wrappers/bin/sudo /usr/bin/doas ;;
esac
[[ $1 != none ]] || rm -f /usr/bin/run0
