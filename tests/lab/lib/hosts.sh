# shellcheck shell=bash
# The hosts there can be. Sourced by everything that has to know them.

# The network has no gateway: it ends at the lab's own bridge, which is .1
lab_net=10.77.0
# shellcheck disable=SC2034
lab_default_hosts=(desk forge git cortex orion)
# shellcheck disable=SC2034
lab_targets=(cortex orion t{1..16})

host_address() {
    case $1 in
        desk) echo $lab_net.10 ;;
        forge) echo $lab_net.11 ;;
        git) echo $lab_net.12 ;;
        cortex) echo $lab_net.20 ;;
        orion) echo $lab_net.21 ;;
        t[1-9] | t1[0-6]) echo $lab_net.$((30 + ${1#t})) ;;
        *) return 1 ;;
    esac
}

host_role() {
    case $1 in
        desk | forge | git) echo "$1" ;;
        *) echo target ;;
    esac
}
