# No boot loader that tells what boots: extlinux's file is gone. What boots is the profile.
rm -rf /boot/extlinux
