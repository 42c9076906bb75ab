# op's clone has a check that is no sh: run by its first line, or not at all.
install -d -o op -g op /home/op/infra/scripts
cat >/home/op/infra/scripts/ok.sh <<'SCRIPT'
#!/usr/bin/env bash
words=(all well)
[[ ${#words[@]} -eq 2 ]]
SCRIPT
chmod 755 /home/op/infra/scripts/ok.sh
chown op: /home/op/infra/scripts/ok.sh
