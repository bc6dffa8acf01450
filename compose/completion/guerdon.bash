# guerdon.bash - completion of guerdon's commands and options for bash.
#
# It asks the program for its --help, so it always knows exactly what the
# program does. Values are completed by what --help calls them: FILE and DIR are
# paths, a|b|c is a choice; "R[,R...]" is a list of the words behind the colon.

# The help of the program that is being typed, or of one of its commands.
_guerdon_help ()
{
    "$(type -P -- "${COMP_WORDS[0]/#~\//$HOME/}")" "$@" --help 2>/dev/null
}

# The words of $1 that begin with what is being typed, behind the prefix $2.
_guerdon_words ()
{
    mapfile -t COMPREPLY < <(compgen -P "$2" -W "$1" -- "${current#"$2"}")
}

# The option $2 in the help $1: "ARGUMENT  what it does".
_guerdon_option ()
{
    sed -n "s/^  $2 \([^ ].*\)/\1/p" <<< "$1"
}

_guerdon_value ()
{
    local argument=${1%%  *} prefix=
    case $argument in
    FILE) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    DIR) mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
    *'[,'*)
        case $current in *,*) prefix=${current%,*}, ;; esac
        _guerdon_words "$(sed 's/.*: //; s/,//g' <<< "$1")" "$prefix" ;;
    *'|'*) _guerdon_words "${argument//|/ }" ;;
    esac
}

_guerdon ()
{
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} help option
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        _guerdon_words "$(_guerdon_help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p') --help --version"
        return
    fi
    # "--name=value" comes as three words.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]] && ((COMP_CWORD > 2)); then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    help=$(_guerdon_help "${COMP_WORDS[1]}")
    option=
    [[ $previous != --* ]] || option=$(_guerdon_option "$help" "$previous")
    if [[ -n $option && $option != ' '* ]]; then
        _guerdon_value "$option"
    elif [[ $current == -* ]]; then
        _guerdon_words "$(sed -n 's/^  \(--[a-z-]*\) .*/\1/p' <<< "$help")"
    elif [[ $help == "Usage: guerdon ${COMP_WORDS[1]} DIR"* ]]; then
        mapfile -t COMPREPLY < <(compgen -d -- "$current")
    elif ((COMP_CWORD == 2)); then
        # What a command is to do, such as "ls|show".
        _guerdon_words "$(sed -n '1s/^Usage: guerdon [a-z]* \([a-z|]*|[a-z]*\) .*/\1/p' <<< "$help" | tr '|' ' ')"
    fi
}

complete -F _guerdon guerdon
