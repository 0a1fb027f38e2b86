// SPDX-License-Identifier: Apache-2.0
/**
 * The scripts that shells read. Each hands over the words up to the cursor and takes lines of a word, a tab and what it
 * is; the line `:files` says that file names fit, too.
 */

const bash = `# bash completion for vnicctl
_vnicctl() {
    local IFS=$'\\n' current line
    # bash splits at colons and equals signs, which stand inside addresses.
    local point=\${COMP_LINE:0:$COMP_POINT}
    local -a words
    IFS=$' \\t\\n' read -ra words <<<"$point"
    case $point in *[[:space:]]) words+=("") ;; esac
    current=\${words[\${#words[@]}-1]}
    # What stands before the last of them stays where it is.
    local breaks=\${COMP_WORDBREAKS//[^:=]/} kept=
    if [ -n "$breaks" ]; then kept=\${current%"\${current##*[$breaks]}"}; fi
    COMPREPLY=()
    while read -r line; do
        case $line in
        :files)
            compopt -o filenames 2>/dev/null
            # --option=FILE
            local before=
            case $current in --*=*) before=\${current%%=*}= ;; esac
            while read -r line; do COMPREPLY+=("\${line#"\${kept#"$before"}"}"); done < <(compgen -f -- "\${current#"$before"}")
            ;;
        *)
            line=\${line%%$'\\t'*}
            case $line in "$current"*) COMPREPLY+=("\${line#"$kept"}") ;; esac
            ;;
        esac
    done < <("\${COMP_WORDS[0]}" completion words -- "\${words[@]:1}" 2>/dev/null)
}
complete -F _vnicctl vnicctl
`;

const zsh = `#compdef vnicctl
# zsh completion for vnicctl
_vnicctl() {
    local line
    local -a found
    local files=0
    for line in "\${(@f)$("\${words[1]}" completion words -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        if [[ $line == :files ]]; then files=1; continue; fi
        [[ -n $line ]] || continue
        found+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
    done
    (( \${#found} )) && _describe vnicctl found
    (( files )) && _files
}
if [ "$funcstack[1]" = _vnicctl ]; then _vnicctl "$@"; else compdef _vnicctl vnicctl; fi
`;

const fish = `# fish completion for vnicctl
function __vnicctl_words
    set -l typed (commandline -opc) (commandline -ct)
    set -l lines (command $typed[1] completion words -- $typed[2..-1] 2>/dev/null)
    for line in $lines
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c vnicctl -f -a '(__vnicctl_words)'
`;

export interface CompletionScript {
  script: string;
  /** How it is put to use. */
  use: string;
}

export const completionScripts: Readonly<Record<'bash' | 'zsh' | 'fish', CompletionScript>> = {
  bash: { script: bash, use: 'source <(vnicctl completion bash)' },
  zsh: { script: zsh, use: 'source <(vnicctl completion zsh), behind compinit' },
  fish: { script: fish, use: 'vnicctl completion fish | source' },
};
