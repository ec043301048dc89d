import Configuration
import Proxy
import Testing

/// Reads a text as a file `t.yaml`.
func lint(_ text: String) -> ConfigurationResult {
    ConfigurationReader.read(text: Array(text.utf8), file: "t.yaml")
}

/// The settings of a text without faults; the test fails and says them where it has some.
func settings(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) throws
    -> GatewaySettings
{
    let result = lint(text)
    let report = LintReport.text(result)
    return try #require(result.settings, "\(report)", sourceLocation: sourceLocation)
}

/// Two targets, for documents that are about something else.
let targets = """
    providers:
      targets:
        - {id: app, provider: http, base_url: "http://127.0.0.1:9001"}
        - {id: next, provider: http, base_url: "http://127.0.0.1:9002"}

    """
