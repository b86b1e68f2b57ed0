#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/command.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse::cli {
namespace {

/// What --set takes: "train.steps=", and of keys that have names each with each, "train.decay=cosine".
std::vector<std::string> settings() {
    std::vector<std::string> words;
    for (const auto& key : config_keys()) {
        if (key.known.empty()) words.push_back(key.key + "=");
        for (const auto& name : key.known) words.push_back(key.key + "=" + name);
    }
    return words;
}

std::vector<std::string> words_of(const Option& option) {
    if (option.value == "KEY=VALUE") return settings();
    if (option.value == "DEVICE") return {"auto", "cpu", "cuda"};
    return option.known();
}

std::vector<std::string> names_of(const std::vector<Option>& options) {
    std::vector<std::string> all;
    for (const auto& option : options) {
        const auto names = option.names();
        all.insert(all.end(), names.begin(), names.end());
    }
    return all;
}

/// A text with each of these characters replaced.
std::string escaped(const std::string& text, const std::vector<std::pair<char, std::string>>& replacements) {
    std::string result;
    for (const char c : text) {
        const auto found =
            std::find_if(replacements.begin(), replacements.end(), [&](auto& r) { return r.first == c; });
        result += found == replacements.end() ? std::string(1, c) : found->second;
    }
    return result;
}

// ---- bash

std::string bash_cases(const Command& command) {
    std::string text;
    for (const auto& option : command.options) {
        const auto words = words_of(option);
        if (option.is_flag() || option.positional) continue;
        const std::string action = !words.empty()        ? fmt::format("words='{}'", fmt::join(words, " "))
                                   : option.takes_path() ? "words= files=1"
                                                         : "words=";
        text += fmt::format("        '{} {}') {} ;;\n", command.name, option.names().back(), action);
    }
    return text;
}

/// Where no option waits for its value: the options, and what a positional argument may be.
std::string bash_default(const Command& command) {
    std::vector<std::string> words = names_of(command.options);
    bool takes_path = false;
    for (const auto& option : command.options) {
        if (!option.positional) continue;
        const auto own = words_of(option);
        words.insert(words.begin(), own.begin(), own.end());
        takes_path = option.takes_path();
    }
    return fmt::format("            {}) words='{}'{} ;;\n", command.name, fmt::join(words, " "),
                       takes_path ? " files=1" : "");
}

std::string bash_script() {
    const auto all = commands("");
    std::string cases, defaults;
    for (const auto& command : all) {
        cases += bash_cases(command);
        defaults += bash_default(command);
    }
    return fmt::format(R"(# Completes diffuse in bash; written by: diffuse completion bash
_diffuse() {{
    local line=${{COMP_LINE:0:COMP_POINT}} words= files= suffix=' '
    local -a typed
    # shellcheck disable=SC2162  # a backslash keeps a blank within its word
    read -a typed <<<"$line"
    [[ $line == *[[:space:]] && $line != *\\[[:space:]] ]] && typed+=('')
    local count=${{#typed[@]}} command=${{typed[1]}}
    local current=${{typed[count - 1]}} before=${{typed[count - 2]}}
    case $current in --*=*) before=${{current%%=*}} current=${{current#*=}} ;; esac
    if [ "$count" -le 2 ]; then
        words='{} {}'
    else
        case "$command $before" in
{}        *)
            case $command in
{}            esac
            case $current in -*) files= ;; esac ;;
        esac
    fi
    # one candidate a line: the names of files may have blanks
    [ -z "$files" ] || {{ compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current"); return; }}
    local list=${{current%"${{current##*,}}"}}
    mapfile -t COMPREPLY < <(compgen -W "$words" -P "$list" -- "${{current##*,}}")
    # bash replaces what stands behind the last = or : alone
    local kept=${{current%"${{current##*[=:]}}"}} i
    for i in "${{!COMPREPLY[@]}}"; do
        case ${{COMPREPLY[i]}} in *=) suffix= ;; esac
        COMPREPLY[i]=${{COMPREPLY[i]#"$kept"}}
    done
    [ -n "$suffix" ] || compopt -o nospace 2>/dev/null
}}
complete -F _diffuse diffuse
)",
                       fmt::join(names_of(all), " "), fmt::join(names_of(program_options()), " "), cases, defaults);
}

// ---- zsh

std::string zsh_text(const std::string& text) {
    return escaped(text, {{'[', "\\["}, {']', "\\]"}, {':', "\\:"}, {'\'', "'\\''"}, {'\\', "\\\\"}});
}

/// How the value of an option is completed.
std::string zsh_action(const Option& option) {
    const auto words = words_of(option);
    if (option.value == "KEY=VALUE") return fmt::format("compadd -S \"\" -- {}", fmt::join(words, " "));
    if (!words.empty()) return fmt::format("({})", fmt::join(words, " "));
    return option.takes_path() ? "_files" : " ";
}

std::string zsh_specs(const Command& command) {
    std::string text;
    for (const auto& option : command.options) {
        const std::string value = escaped(option.value_name(), {{':', "\\:"}, {'=', "-"}});
        const std::string repeats = option.repeats() ? "*" : "";
        if (option.positional) text += fmt::format(" \\\n                '1:{}:{}'", value, zsh_action(option));
        for (const auto& name : option.names()) {
            const std::string meaning = zsh_text(option.field.meaning);
            text += option.is_flag() ? fmt::format(" \\\n                '{}[{}]'", name, meaning)
                                     : fmt::format(" \\\n                '{}{}=[{}]:{}:{}'", repeats, name, meaning,
                                                   value, zsh_action(option));
        }
    }
    return text;
}

std::string zsh_script() {
    std::string names, cases;
    for (const auto& command : commands("")) {
        names += fmt::format("        '{}:{}'\n", command.name, zsh_text(command.about));
        cases += fmt::format("            {})\n                _arguments -s{} ;;\n", command.name, zsh_specs(command));
    }
    return fmt::format(R"(#compdef diffuse
# Completes diffuse in zsh; written by: diffuse completion zsh
_diffuse() {{
    local context state state_descr line
    local -A opt_args
    local -a commands
    commands=(
{}    )
    _arguments -C '(- *)'{{-h,--help}}'[print help]' '(- *)--version[print the version]' \
        '1:command:->command' '*::argument:->argument'
    case $state in
    command) _describe -t commands 'command' commands ;;
    argument)
        case $words[1] in
{}        esac ;;
    esac
}}
if [ "$funcstack[1]" = _diffuse ]; then _diffuse "$@"; else compdef _diffuse diffuse; fi
)",
                       names, cases);
}

// ---- fish

std::string fish_text(const std::string& text) { return escaped(text, {{'\'', "\\'"}, {'\\', "\\\\"}}); }

std::string fish_option(const std::string& command, const Option& option) {
    const std::string condition = command.empty() ? "__fish_use_subcommand" : "__fish_seen_subcommand_from " + command;
    const auto words = words_of(option);
    std::string text = fmt::format("complete -c diffuse -n '{}'", condition);
    for (const auto& name : option.names()) {
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    }
    const bool is_option = !option.positional;
    if (option.takes_path()) text += is_option ? " -r -F" : " -F";
    if (is_option && !option.is_flag() && !option.takes_path()) text += " -x";
    if (!words.empty()) text += fmt::format(" -a '{}'", fmt::join(words, " "));
    return text + fmt::format(" -d '{}'\n", fish_text(option.field.meaning));
}

std::string fish_script() {
    std::string text = "# Completes diffuse in fish; written by: diffuse completion fish\ncomplete -c diffuse -f\n";
    for (const auto& option : program_options()) text += fish_option("", option);
    for (const auto& command : commands("")) {
        text += fmt::format("complete -c diffuse -n __fish_use_subcommand -a {} -d '{}'\n", command.name,
                            fish_text(command.about));
        for (const auto& option : command.options) text += fish_option(command.name, option);
    }
    return text;
}

using Script = std::string (*)();
const Table<Script>& shells() {
    static const Table<Script> table = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};
    return table;
}

}  // namespace

std::string completion_script(const std::string& shell) { return look_up("shell", shells(), shell)(); }

std::vector<std::string> shell_names() { return names(shells()); }

}  // namespace diffuse::cli
