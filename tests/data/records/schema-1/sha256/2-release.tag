object d2a9faac7849e08ac14e7e5167b4b2e345fd89700975a38341e695ff318a6454
type commit
tag release/cortex/20261120T031404Z-d2a9faac7849
tagger Ada <ops@example.org> 1795144444 +0000

Release cortex at d2a9faac7849: change 2

cortex runs /nix/store/1766a69ab7401ce3a6dcda6798f49d89-nixos-system-cortex
2700 paths, 8000000000 bytes, built by forge for x86_64-linux
2 upgraded; -4096 bytes
gates: preflight passed, build passed, validate passed (3.6 s)
generation 141 -> 142

-----BEGIN NIXGATE EVIDENCE-----
{"_type":"https://in-toto.io/Statement/v1","predicate":{"before":{"toplevel":"/nix/store/00000000000000000000000000000000-before"},"builder":"forge","by":"Ada <ops@example.org>","bytes":8000000000,"closure_digest":"1766a69ab7401ce3a6dcda6798f49d89620d876c5152587dacc53223b0693a10","diff":{"added":0,"bytes_delta":-4096,"downgraded":0,"lines":["nginx 1.26.1 -> 1.26.2"],"rebuilt":0,"removed":0,"upgraded":2},"drv":"/nix/store/620d876c5152587dacc53223b0693a10-nixos-system-cortex.drv","flake_lock_sha256":"0c030586945fe504b604ecc2e875c38ede400cd5cd73da9730302162e6b02c6f","gates":[{"findings":["nothing unusual"],"gate":"preflight","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"},{"findings":["nothing unusual"],"gate":"build","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"},{"findings":["nothing unusual"],"gate":"validate","millis":1200,"start":"2026-11-20T03:13:00Z","verdict":"passed"}],"generation_after":142,"generation_before":141,"nar_hash":"sha256:1766a69ab7401ce3a6dcda6798f49d89620d876c5152587dacc53223b0693a10","nix_version":"Nix 2.26.3","paths":2700,"plan":{"restart":["nginx.service"]},"system":"x86_64-linux","target":"cortex","toplevel":"/nix/store/1766a69ab7401ce3a6dcda6798f49d89-nixos-system-cortex"},"predicateType":"https://git-nixgate.dev/evidence/v1","subject":[{"digest":{"gitCommit":"d2a9faac7849e08ac14e7e5167b4b2e345fd89700975a38341e695ff318a6454"},"name":"commit"},{"digest":{"gitTree":"6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"},"name":"tree"}]}
-----END NIXGATE EVIDENCE-----

Nixgate-Schema: 1
Nixgate-Target: cortex
Nixgate-Kind: release
Nixgate-Seq: 2
Nixgate-Previous: 8ffc8aa7fd60074d78a16214bb0ac7f18c113f246d354ed9faac1c7868080426
Nixgate-Previous-SHA256: 70011c80aa5b63f833cf60fa83e450f2083bc11f2434e6133323399a79710663
Nixgate-Evidence-SHA256: c26633491b32a346b76e456f51b0fefe8c7db3f3673bd037fefd3b8fca96917f
