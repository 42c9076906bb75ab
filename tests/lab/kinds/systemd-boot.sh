# Stands in for EFI firmware and systemd-boot, of which a container has neither: `bootctl` tells extlinux's generations in
# bootctl(1)'s JSON (systemd 257), and keeps what boots once in the EFI variable of the Boot Loader Interface. As the real one
# (src/shared/bootspec.c) it marks that entry as the default while it is pending. $1: entry (loader.conf names the default), or
# pattern (the newest generation is, as with lanzaboote's `default nixos-*`). Run again after a reboot, which forgets what boots
# once; `systemd-boot-boots` in the host makes extlinux boot what this menu would.
choice=${1:-entry}
echo "$choice" >/boot/choice
mountpoint -q /sys/firmware || mount -t tmpfs tmpfs /sys/firmware
mkdir -p /sys/firmware/efi/efivars
rm -f /usr/bin/bootctl
cat >/usr/bin/bootctl <<'BOOTCTL'
#!/bin/bash
variable=/sys/firmware/efi/efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
# id and toplevel of each generation, newest first; the default, by the name that it has in loader.conf.
entries=() default='' first=''
while read -r word rest; do
    case $word in
    LABEL) id=${rest#nixos-} id=${id%-default} ;;
    APPEND)
        init=${rest%% *}
        if [ "$id" = default ]; then first=$init; continue; fi
        case $id in *-*) continue ;; esac
        entries+=("nixos-generation-$id.conf $init")
        [ -n "$default" ] || [ "$init" != "$first" ] || default="nixos-generation-$id.conf"
        ;;
    esac
done </boot/extlinux/extlinux.conf
mkdir -p /boot/loader
case $(cat /boot/choice) in
pattern) default=${entries[0]%% *} conf='nixos-*' ;;
*) conf=$default ;;
esac
printf 'timeout 5\ndefault %s\n' "$conf" >/boot/loader/loader.conf
once=$([ ! -e $variable ] || tail -c +5 $variable | tr -d '\0')
case $1 in
list)
    marked=$default sep='['
    for e in "${entries[@]}"; do [ "${e%% *}" != "$once" ] || marked=$once; done
    for e in "${entries[@]}"; do
        is=false
        [ "${e%% *}" != "$marked" ] || is=true
        printf '%s{"type":"type1","source":"esp","id":"%s","options":"%s loglevel=4","isDefault":%s}' "$sep" "${e%% *}" "${e#* }" $is
        sep=,
    done
    echo ']'
    ;;
set-oneshot)
    rm -f $variable
    [ -z "$2" ] || { printf '\7\0\0\0'; printf '%s' "$2" | sed 's/./&\n/g' | while IFS= read -r c; do printf '%s\0' "$c"; done; printf '\0\0'; } >$variable
    ;;
boots) # the init that firmware and boot loader would start next; what is to boot once and is not there is passed over
    for e in "${entries[@]}"; do [ "${e%% *}" != "$once" ] || default=$once; done
    for e in "${entries[@]}"; do [ "${e%% *}" != "$default" ] || echo "${e#* }"; done
    ;;
esac
BOOTCTL
chmod +x /usr/bin/bootctl
bootctl boots >/dev/null
