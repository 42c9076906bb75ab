# A closure of `size` packages by index arithmetic, about seven references each, with changes that are known: for
# tests/bench-diff. Every derivation builds in milliseconds with /bin/sh.
{
  size,
  bumps ? 0, # so many versions go up, spread over all
  from ? 0, # … from this one on: the higher, the fewer are rebuilt for them
  added ? 0,
  dropped ? 0, # packages that nobody needs but the system
  silent ? -1, # this one is configured otherwise; 0 is at the bottom of everything
}:
let
  n = toString;
  every = if bumps == 0 then size + 1 else (size - from) / bumps;
  isDropped = i: dropped > 0 && i >= size / 2 && i < size / 2 + dropped;
  isBumped = i: i >= from && i - i / every * every == every - 1;
  below = i: builtins.filter (j: j < i) (map (d: i / d) [ 2 3 5 7 11 13 17 ]);
  package =
    i:
    derivation {
      name = "p${n i}x-1.${if isBumped i then "2" else "1"}";
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [ "-c" "echo $buildInputs $chained >$out" ];
      buildInputs = map (builtins.elemAt packages) (below (if i < size then i else size - 1));
      # All of them stand on the first.
      chained = if i == 0 then "" else builtins.elemAt packages 0;
      flags = if i == silent then "--other" else "--usual";
      description = "Package number ${n i} of a system that has ${n size} of them, made for a comparison and nothing else";
    };
  packages = builtins.genList package size;
  chosen = builtins.filter (i: !isDropped i) (builtins.genList (i: i) size);
  more = builtins.genList (i: package (size + i)) added;
in
derivation {
  name = "nixos-system-bench-${n size}";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-c" "read -r paths <$pathsPath; echo $paths >$out" ];
  passAsFile = [ "paths" ];
  paths = map (builtins.elemAt packages) chosen ++ more;
}
