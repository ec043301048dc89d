import CoreLoop
import Mock
import Providers

/// `umbra mock`: a stand-in for a provider, so that everything can be tried without keys.
enum MockCommand {
    private static let help = """
        Usage: umbra mock openai | anthropic [--port N | --listen ADDR:PORT] [options]

        A stand-in for a provider's API, made for tests and demonstrations. It answers chat (messages), streamed
        and whole, with tools, pictures and usage; openai also completions, responses and embeddings. The same
        request gets the same words.

          --port N               listen on 127.0.0.1:N; 0 takes a free one (0)
          --listen ADDR:PORT     listen there
          --latency-ms N         milliseconds before an answer or a stream's first event (0)
          --tokens-per-second N  how fast it speaks, 0 for all at once (0)
          --seed N               another seed, other words (1)
          --key KEY              the only key it takes; without it any will do, but not none
          --requests-per-minute N, --tokens-per-minute N
                                 what the rate-limit headers tell, and 429 enforces (10000, 2000000)
          --log                  one line on standard error for each request

        The model's name asks for a behaviour: error-STATUS fails, flaky-STATUS fails every second time, hang
        never answers, cut ends in a reset, html and invalid-json cannot be read, error-in-stream fails on the
        way, endless never ends, refusal declines, echo repeats the user's words, long says 2,000 of them.
        A tool is called where tool_choice asks for it, or where the user's text names it.
        """

    static func run(_ words: [String]) -> Int32 {
        let dialect: Dialect
        switch words.first {
        case "openai": dialect = .openAI
        case "anthropic": dialect = .anthropic
        case "--help", "-h":
            Console.out(help)
            return 0
        default:
            Console.error("umbra mock: the stand-ins are 'openai' and 'anthropic'.\n\n\(help)")
            return 2
        }
        do {
            let arguments = try Arguments(
                Array(words.dropFirst()),
                valued: [
                    "--port", "--listen", "--latency-ms", "--tokens-per-second", "--seed", "--key",
                    "--requests-per-minute", "--tokens-per-minute",
                ], flags: ["--log"])
            if arguments.has("--help") {
                Console.out(help)
                return 0
            }
            return try serve(dialect, arguments)
        } catch {
            Console.error("umbra mock: \(error.text)")
            return 2
        }
    }

    private static func serve(
        _ dialect: Dialect, _ arguments: Arguments
    ) throws(Arguments.Fault) -> Int32 {
        let port = try arguments.number("--port", in: 0...65_535) ?? 0
        let text = arguments.value("--listen") ?? "127.0.0.1:\(port)"
        guard let listen = SocketAddress(text) else {
            throw Arguments.Fault(text: "--listen wants ADDR:PORT, not '\(text)'")
        }
        var options = MockOptions(dialect, listen: listen)
        options.latencyMs = Double(try arguments.number("--latency-ms", in: 0...600_000) ?? 0)
        options.tokensPerSecond = Double(
            try arguments.number("--tokens-per-second", in: 0...1_000_000) ?? 0)
        options.seed = UInt64(try arguments.number("--seed", in: 0...Int.max) ?? 1)
        options.key = arguments.value("--key")
        let million = 1...1_000_000_000
        options.requestsPerMinute =
            try arguments.number("--requests-per-minute", in: million) ?? options.requestsPerMinute
        options.tokensPerMinute =
            try arguments.number("--tokens-per-minute", in: million) ?? options.tokensPerMinute
        let log: ((String, String, Int) -> Void)? =
            arguments.has("--log")
            ? { method, path, status in Console.error("\(method) \(path) \(status)") } : nil
        do throws(SystemError) {
            let server = try MockServer(options, onAnswer: log)
            let name = dialect == .openAI ? "openai" : "anthropic"
            Console.out("umbra mock \(name) listens on http://\(server.address.text)")
            server.run { false }
            return 0
        } catch {
            Console.error("umbra mock: cannot listen on \(listen.text): \(error)")
            return 1
        }
    }
}
