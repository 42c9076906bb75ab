# A name has an IPv6 address that does not answer, before its good one. $1: the name (cortex). Meant for desk or forge
name=${1:-cortex}
ip -6 addr replace fd77::1:1/64 dev eth0 nodad
# Known to the neighbour table, so that nothing says that nobody is there.
ip -6 neigh replace fd77::dead lladdr 02:00:00:00:de:ad nud permanent dev eth0
grep -qx "fd77::dead $name" /etc/hosts || echo "fd77::dead $name" >>/etc/hosts
