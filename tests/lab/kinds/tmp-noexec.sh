# No program can be started from /tmp.
mount -o remount,noexec /tmp
