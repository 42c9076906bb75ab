# A specialisation of the system runs, until the next boot. $1: its name (debug)
/run/current-system/specialisation/"${1:-debug}"/bin/switch-to-configuration test >/dev/null 2>&1
