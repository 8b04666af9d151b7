// The reference server of the tus protocol, as its own README starts it:
//
//     node tus_server.mjs FOLDER      prints the URL that it listens on
//
// It must be beside the node_modules that it is to use.
import { FileStore } from '@tus/file-store'
import { Server } from '@tus/server'

const datastore = new FileStore({ directory: process.argv[2] })
const server = new Server({ path: '/up', datastore }).listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`)
})
server.keepAliveTimeout = 0 // as long as the client wants
