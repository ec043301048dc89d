import Admin
import CLinux
import Configuration
import CoreLoop
import Proxy

/// The running gateway that a command is about: where its admin listener is, and the token for it.
struct AdminAddress {
    let address: SocketAddress
    let token: String?
    /// A file named it: the gateway that runs may have been started from an older text.
    var isFromFile = false

    /// The options that say which.
    static let options: Set<String> = ["--policy-config", "--admin"]

    static let help = """
            --policy-config FILE   the gateway whose admin listener this file names
            --admin ADDR:PORT      this one; 127.0.0.1:41003 without either
            A token is taken from the variable that the file names, else from UMBRA_ADMIN_TOKEN.
        """

    /// Reads the options. Nil where the named file does not say, which was told.
    static func read(_ arguments: Arguments) throws(Arguments.Fault) -> AdminAddress? {
        let token = getenv("UMBRA_ADMIN_TOKEN").map { String(cString: $0) }
        if let text = arguments.value("--admin") {
            guard arguments.value("--policy-config") == nil else {
                throw Arguments.Fault(text: "--admin and --policy-config exclude each other")
            }
            guard let address = SocketAddress(text) else {
                throw Arguments.Fault(text: "--admin \(text): not ADDR:PORT")
            }
            return AdminAddress(address: address, token: token)
        }
        var settings = AdminSettings()
        if let file = arguments.value("--policy-config") {
            let (read, findings) = ConfigurationReader.readAdmin(file)
            guard let read else {
                for finding in findings { Console.error(finding.text(file: file)) }
                Console.error(
                    "\(file) does not say where the gateway's admin listener is; "
                        + "--admin ADDR:PORT does")
                return nil
            }
            settings = read
        }
        guard let address = settings.listen else {
            throw Arguments.Fault(
                text: "the configuration switches the admin listener off; where the gateway that "
                    + "runs still has one, --admin ADDR:PORT names it")
        }
        var gateway = AdminAddress(address: address, token: token)
        if let name = settings.tokenVariable {
            gateway = AdminAddress(
                address: address, token: getenv(name).map { String(cString: $0) })
        }
        gateway.isFromFile = arguments.value("--policy-config") != nil
        return gateway
    }

    /// What keeps a command from its gateway, with a remedy where there may be one.
    func explained(_ reason: String) -> String {
        guard isFromFile, reason.contains("no gateway answers") else { return reason }
        return reason
            + " (if the file has moved the admin listener, --admin ADDR:PORT names the old)"
    }
}
