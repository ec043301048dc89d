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
        // Either of two may be the one that counts.
        (#""tools":[],"functions":[{"name":"f"}]"#, .clientTools),
        (#""tools":[{"type":"mcp"}],"tools":[]"#, .provider),
        (#""tools":[{"type":"mcp","type":"function"}]"#, .provider),
        (#""tools":[{"type":"function","type":"mcp"}]"#, .provider),
        (#""Tools":[{"type":"mcp"}]"#, .provider), (#""MCP_servers":[{}]"#, .provider),
        // Without a type, what looks like a function and like nothing else.
        (#""tools":[{"name":"f","parameters":{}}]"#, .clientTools),
        (#""tools":[{}]"#, .provider), (#""tools":[{"google_search":{}}]"#, .provider),
        (#""tools":[{"function":{},"google_search":{}}]"#, .provider),
        (#""tools":[{"name":"s","server_url":"https://x"}]"#, .provider),
        (#""tools":[{"type":"namespace","tools":[{"type":"function"}]}]"#, .clientTools),
        (#""tools":[{"type":"namespace","tools":[{"type":"mcp"}]}]"#, .provider),
        (#""tools":[{"type":"namespace"}]"#, .provider),
        (#""tools":[{"type":"shell","environment":{"type":"local"}}]"#, .clientTools),
        (#""tools":[{"type":"shell","environment":{"type":"container_auto"}}]"#, .provider),
        (#""tools":[{"type":"shell"}]"#, .provider),
        (
            #""tools":[{"type":"shell","environment":{"type":"x"},"environment":{"type":"local"}}]"#,
            .provider
        ),
        // The turns of a response.
        (#""input":"x""#, .none), (#""input":[{"role":"user","content":"x"}]"#, .none),
        (#""input":[{"type":"additional_tools","tools":[{"type":"mcp"}]}]"#, .provider),
        (#""input":[{"type":"tool_search_output","tools":[{"type":"function"}]}]"#, .clientTools),
        (#""input":[{"type":"mcp_approval_response","approve":true}]"#, .provider),
        // What acts without a tool, and what nobody knows.
        (#""background":true"#, .provider), (#""background":false"#, .none),
        (#""prompt":{"id":"p"}"#, .provider), (#""prompt":["a","b"]"#, .none),
        (#""prompt":"a""#, .none), (#""agent_id":"a""#, .provider),
        (#""enable_search":true"#, .provider), (#""enable_search":false"#, .none),
        (#""mcp_servers":[{}]"#, .provider), (#""container":"c""#, .provider),
        (#""data_sources":[{}]"#, .provider), (#""search_parameters":{}"#, .provider),
        (#""plugins":[{"id":"web"}]"#, .provider), (#""extra_body":{"google":{}}"#, .provider),
        (#""top_k":5,"min_p":0.1,"guided_regex":"a","user":"u","seed":1"#, .none),
        (
            #""response_format":{"type":"text"},"logit_bias":{},"stop":["a"],"metadata":{"a":"b"}"#,
            .none
        ),
        (#""reasoning":{"effort":"low"},"text":{"verbosity":"low"},"include":["a"]"#, .none),
        (#""previous_response_id":"r""#, .none),
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
        (#""tools":[{"type":"bash_code_execution_20250825"}]"#, .provider),
        (#""tools":[{"type":"text_editor_code_execution_20250825"}]"#, .provider),
        (#""system":[{"type":"text"}],"thinking":{"type":"enabled"},"tool_choice":{}"#, .none),
        (#""stop_sequences":["a"],"metadata":{"user_id":"u"},"messages":[{}]"#, .none),
    ])
    func anthropic(_ members: String, _ wanted: RequestEffects) throws {
        #expect(try effects(.messages, members) == wanted)
    }
}
