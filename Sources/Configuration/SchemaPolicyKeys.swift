import EventLog
import Policy

extension Schema {
    /// Who may use the gateway, and what the document calls itself.
    static let access: [SchemaKey] = [
        SchemaKey(
            "auth", .forms("a mapping, or none"), "none",
            "{keys: [{name: team, env: UMBRA_KEY_TEAM}]}",
            "Whom the gateway lets in; none asks for no key. Required with LLM targets where other "
                + "machines reach the listener."),
        SchemaKey(
            "auth.keys", .list("mappings: name, and env or file"), "–",
            "[{name: team, env: UMBRA_KEY_TEAM}, {name: ci, file: /run/secrets/ci}]",
            "Keys of clients, as Authorization: Bearer, x-api-key or api-key; they stay behind. "
                + "Required."),
        SchemaKey(
            "auth.keys[].name", .text("a name of letters, digits, `.`, `_` and `-`"), "–", "team",
            "Who has the key. Required."),
        SchemaKey(
            "auth.keys[].env", .text("the name of an environment variable"), "–",
            "UMBRA_KEY_TEAM", "The gateway's variable that holds it."),
        SchemaKey(
            "auth.keys[].file", .text("the path of a file"), "–", "/run/secrets/team",
            "A file with the key and nothing else."),
        SchemaKey(
            "pack", .mapping, "–", "{name: edge, version: 1.0.0}",
            "What the document calls itself."),
        SchemaKey(
            "pack.name", .text("a text of 1 to 200 characters"), "–", "edge", "Required."),
        SchemaKey(
            "pack.version", .text("a version as semver.org has it"), "–", "1.2.0-rc.1",
            "Required."),
        SchemaKey(
            "pack.enabled", .boolean, "true", "false", "False switches the policies off."),
        SchemaKey("pack.id", .text("a text"), "–", "edge-1", "For people."),
        SchemaKey("pack.author", .text("a text"), "–", "platform", "For people."),
        SchemaKey("pack.description", .text("a text"), "–", "chats", "For people."),
    ]

    /// Both forms of `policies`: an entry of the list has the keys of its kind's block.
    static let policies: [SchemaKey] =
        [
            SchemaKey(
                "policies",
                .forms("a list of mappings {name, type, …}, or a mapping {chain, policy}"), "–",
                "[{name: words, type: content_filter, action: flag}]",
                "What requests to LLM targets are held against, in this order."),
            SchemaKey(
                "policies[].name", .text("a name of letters, digits, `.`, `_` and `-`"),
                "the type", "words", "For events and errors."),
            SchemaKey(
                "policies[].type", .text("content_filter, pii-detector or audit-logger"), "–",
                "content_filter", "The kind; `_` and `-` are the same. Required."),
            SchemaKey(
                "policies[].action", .choice(["flag", "block", "redact"]), "the kind's", "block",
                "As in the kind's block below."),
        ] + patterns("policies[]") + detect("policies[]") + audit("policies[]") + [
            SchemaKey(
                "policies.chain", .list("kinds"), "–", "[pii-detector, content_filter]",
                "The other form: the kinds in their order. Required in it."),
            SchemaKey(
                "policies.policy", .mapping, "–",
                "{content_filter: {action: block}, pii-detector: {}}", "A block for each kind."),
            SchemaKey(
                "policies.policy.content_filter", .mapping, "–", "{action: block}",
                "Looks for patterns in requests, and in answers for their events."),
            SchemaKey(
                "policies.policy.content_filter.action", .choice(["flag", "block"]), "flag",
                "block",
                "flag passes the request, and its event tells (verdict escalate); block answers 409."
            ),
        ] + patterns("policies.policy.content_filter") + [
            SchemaKey(
                "policies.policy.pii-detector", .mapping, "–", "{action: redact}",
                "Looks for personal data and secrets in requests."),
            SchemaKey(
                "policies.policy.pii-detector.action", .choice(["redact", "block"]), "redact",
                "block",
                "redact replaces what is found, for primary, shadow and event; block answers 409."),
        ] + detect("policies.policy.pii-detector") + [
            SchemaKey(
                "policies.policy.audit-logger", .mapping, "–", "{retention_days: 365}",
                "Asks the event log to keep its records.")
        ] + audit("policies.policy.audit-logger")

    private static func patterns(_ parent: String) -> [SchemaKey] {
        [
            SchemaKey(
                "\(parent).patterns", .list("texts, and of {regex: PATTERN}"),
                "attempts to talk a model out of its instructions",
                "[project falcon, {regex: \"\\\\bsecret-[0-9]+\"}]",
                "What content_filter looks for; upper and lower case are the same."),
            SchemaKey(
                "\(parent).patterns[].regex",
                .text("a POSIX extended regular expression, without back-references"), "–",
                "\"(password|passwort) *[:=]\"", "An entry of the list."),
        ]
    }

    private static func detect(_ parent: String) -> [SchemaKey] {
        let names = PIIKinds.names.map(\.name).joined(separator: ", ")
        return [
            SchemaKey(
                "\(parent).detect", .list("kinds of data: \(names)"), "[\(names)]",
                "[email, phone]", "What pii-detector looks for.")
        ]
    }

    private static func audit(_ parent: String) -> [SchemaKey] {
        [
            SchemaKey(
                "\(parent).immutable", .boolean, "true", "false",
                "audit-logger: as event_log.immutable."),
            SchemaKey(
                "\(parent).retention_days", .integer(EventLog.Limits.retentionDays), "365", "90",
                "audit-logger: as event_log.retention_days."),
            SchemaKey(
                "\(parent).log_all_access", .boolean, "false", "true",
                "audit-logger: events of all requests, not only of those to LLM targets."),
        ]
    }
}
