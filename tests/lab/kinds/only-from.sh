# Only one address is let in by ssh, that of a jump host. $1: the address
nft -f - <<RULES
table inet only-from
delete table inet only-from
table inet only-from {
  chain input {
    type filter hook input priority -5; policy accept;
    tcp dport 22 ip saddr != $1 drop
  }
}
RULES
