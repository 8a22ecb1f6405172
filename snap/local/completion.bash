# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0
# Written by tools/write_manual.py.
_epa_orchestrator_completion() {
    local IFS=$'
'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" \
                   COMP_CWORD=$COMP_CWORD \
                   _EPA_ORCHESTRATOR_COMPLETE=complete_bash "$SNAP/bin/epa-orchestrator" ) )
    return 0
}

complete -o default -F _epa_orchestrator_completion epa-orchestrator
