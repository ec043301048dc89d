import Providers
import Testing

/// What requests can do, told by what they carry: names as the providers' references have them.
@Suite struct RequestEffectsTests {
    private func effects(_ inference: Inference, _ members: String) throws -> RequestEffects {
        RequestEffects(try JSONDocument("{\(members)}").root, of: inference)
    }

    @Test(arguments: [
        ("\"model\":\"m\"", RequestEffects.none), (#""tools":null"#, .none),
        (#""tools":[]"#, .none),
        (#""functions":[]"#, .none), (#""web_search_options":null"#, .none),
        (#""conversation":null"#, .none),
        (#""functions":[{"name":"f"}]"#, .clientTools),
        (#""tools":[{"type":"function"},{"type":"custom"}]"#, .clientTools),
        (#""tools":[{"function":{}}]"#, .clientTools),
        (#""tools":[{"type":"computer_use_preview"},{"type":"local_shell"}]"#, .clientTools),
        (#""tools":[{"type":"function"},{"type":"mcp"}]"#, .provider),
        (#""tools":[{"type":"code_interpreter"}]"#, .provider),
        (#""tools":[{"type":"web_search"}]"#, .provider),
        (#""tools":[{"type":"file_search"}]"#, .provider),
        (#""tools":[{"type":"image_generation"}]"#, .provider),
        (#""tools":[{"type":"of_tomorrow"}]"#, .provider),
        (#""tools":[{"type":"Function"}]"#, .provider), (#""tools":[{"type":1}]"#, .provider),
        (#""tools":["function"]"#, .provider), (#""tools":{"type":"mcp"}"#, .provider),
        (#""tools":[{"type":"\u006dcp"}]"#, .provider),
        (#""\u0074ools":[{"type":"mcp"}]"#, .provider),
        (#""web_search_options":{}"#, .provider), (#""conversation":"conv_1""#, .provider),
        (#""conversation":{"id":"conv_1"}"#, .provider),
    ])
    func openAI(_ members: String, _ wanted: RequestEffects) throws {
        #expect(try effects(.chat, members) == wanted)
        #expect(try effects(.responses, members) == wanted)
    }

    @Test(arguments: [
        (
            #""tools":[{"name":"f","input_schema":{}},{"type":"custom"}]"#,
            RequestEffects.clientTools
        ),
        (#""tools":[{"type":"bash_20250124"},{"type":"text_editor_20250728"}]"#, .clientTools),
        (#""tools":[{"type":"computer_20250124"},{"type":"memory_20250818"}]"#, .clientTools),
        (#""tools":[{"type":"web_search_20250305"}]"#, .provider),
        (#""tools":[{"type":"web_fetch_20250910"}]"#, .provider),
        (#""tools":[{"type":"code_execution_20250825"}]"#, .provider),
        (#""tools":[{"type":"function"}]"#, .provider),
        (#""mcp_servers":[]"#, .none), (#""mcp_servers":[{"url":"https://x"}]"#, .provider),
        (#""mcp_servers":{}"#, .provider), (#""container":"c_1""#, .provider),
    ])
    func anthropic(_ members: String, _ wanted: RequestEffects) throws {
        #expect(try effects(.messages, members) == wanted)
    }
}
