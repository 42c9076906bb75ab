{
  description = "Proven NixOS deploys: every release passes its gates on the host, and git keeps the record";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: {
        default = pkgs.rustPlatform.buildRustPackage {
          pname = "git-nixgate";
          version = (nixpkgs.lib.importTOML ./Cargo.toml).package.version;
          src = self;
          cargoLock.lockFile = ./Cargo.lock;
          nativeBuildInputs = [ pkgs.installShellFiles ];
          nativeCheckInputs = [
            pkgs.git
            pkgs.openssh
          ];
          cargoTestFlags = [
            "--lib"
            "--test=screens"
          ];
          postInstall = ''
            installManPage docs/man/man1/*.1
            for shell in bash zsh fish; do
              $out/bin/git-nixgate completions $shell > git-nixgate.$shell
            done
            installShellCompletion git-nixgate.{bash,zsh,fish}
          '';
          meta = {
            description = "Proven NixOS deploys: every release passes its gates on the host, and git keeps the record";
            license = with pkgs.lib.licenses; [
              mit
              asl20
            ];
            mainProgram = "git-nixgate";
          };
        };
      });
    };
}
