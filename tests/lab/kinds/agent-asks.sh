# An ssh agent that wants each use of a key confirmed, as one that wants a touch: by ~/confirm, a program that waits for
# a file of the same name with .ok. $1: the user (op). The key's file goes; ~/agent.sock is the agent. Meant for desk
user=${1:-op} home=/home/${1:-op}
cat >"$home/confirm" <<'CONFIRM'
#!/bin/sh
echo asked >>"$0.asked"
until [ -e "$0.ok" ]; do sleep 0.05; done
CONFIRM
chmod 755 "$home/confirm"
rm -f "$home/agent.sock" "$home/confirm.asked" "$home/confirm.ok"
chown "$user" "$home/confirm"
as() { setpriv --reuid "$user" --regid "$user" --init-groups env HOME="$home" SSH_AUTH_SOCK="$home/agent.sock" "$@"; }
as env SSH_ASKPASS="$home/confirm" SSH_ASKPASS_REQUIRE=force ssh-agent -a "$home/agent.sock" >/dev/null
as ssh-add -q -c "$home/.ssh/id_ed25519" 2>/dev/null
mkdir -p "$home/kept"
mv "$home/.ssh/id_ed25519" "$home/kept/"
grep -q IdentityAgent "$home/.ssh/config" ||
    printf 'Host *\n  IdentityAgent %s/agent.sock\n' "$home" >>"$home/.ssh/config"
