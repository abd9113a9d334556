// A component that renders again only when a property changes.

import { Component, h } from 'preact';

export function memo(render) {
  return class extends Component {
    shouldComponentUpdate(next) {
      const names = new Set([...Object.keys(next), ...Object.keys(this.props)]);
      return [...names].some((name) => next[name] !== this.props[name]);
    }

    render() {
      return h(render, this.props);
    }
  };
}
